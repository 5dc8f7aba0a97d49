// Reads compose files with balena's own parser; says what it refuses. Exit code 1: something.
const { parse } = require("@balena/compose-parser");

(async () => {
    for (const file of process.argv.slice(2)) {
        try {
            const { services } = await parse(file);
            console.log(`${file}: accepted (${Object.keys(services).join(", ")})`);
        } catch (error) {
            const where = error.serviceName ? `${error.serviceName}: ` : "";
            console.log(`${file}: refused: ${where}${error.message}`);
            process.exitCode = 1;
        }
    }
})();
