// What makes the pages handier; all of them work without it.
"use strict";

(() => {
  const all = (what, where = document) => [...where.querySelectorAll(what)];

  // Parts that are kept up to date: every few seconds while they can be seen, and at once when
  // something was heard (live.js says so: document.dispatchEvent(new Event("acoupi:heard"))).
  const refresh = () => {
    if (!document.hidden) all("[data-refresh]").forEach((one) => htmx.trigger(one, "refresh"));
  };
  const often = document.querySelector("[data-refresh]");
  if (often) {
    setInterval(refresh, 1000 * Number(often.dataset.refresh));
    document.addEventListener("acoupi:heard", refresh);
    document.addEventListener("visibilitychange", refresh);
  }

  // An answer that is not the page that was asked for has no such part: the session has ended
  // (then the page to log in is shown), something cannot be (then the browser goes and shows why),
  // or the sensor does not answer just now (then what is shown stays).
  document.addEventListener("htmx:before:swap", (event) => {
    const answer = event.detail.ctx.response.raw;
    if (answer.ok && !answer.redirected) return;
    event.preventDefault();
    const isRefreshed = event.target.matches("[data-refresh]");
    if (answer.redirected) location.reload();
    else if (!isRefreshed) location.assign(answer.url);
  });

  // Sound at another speed is played here, not on a page of its own.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-slow]");
    if (!link) return;
    event.preventDefault();
    const clip = link.closest("[data-clip]");
    all("[data-slow]", clip).forEach((one) => one.removeAttribute("aria-current"));
    link.setAttribute("aria-current", "true");
    const audio = clip.querySelector("audio");
    audio.src = link.href;
    audio.play().catch(() => {}); // the player itself shows what went wrong
  });

  // The keys of "acoupi review", where nothing is being written.
  document.addEventListener("keydown", (event) => {
    const writes = event.target.closest("input, select, textarea, [contenteditable]");
    if (writes || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "p") {
      const audio = document.querySelector("[data-audio]");
      if (audio) audio.paused ? audio.play().catch(() => {}) : audio.pause();
    } else if (/^[a-z]$/.test(event.key)) {
      const one = document.querySelector(`[data-key="${event.key}"]`);
      if (!one) return;
      event.preventDefault();
      const species = document.querySelector(".verdict [name=species]");
      if (event.key === "o" && species && !species.value) species.focus();
      else one.click();
    }
  });

  // The trend of the microphone.
  const trend = document.getElementById("trend");
  if (trend && window.uPlot) {
    fetch(trend.dataset.plot).then((answer) => answer.json()).then(({ levels }) => {
      const style = getComputedStyle(document.documentElement);
      const colour = (name) => style.getPropertyValue(name).trim();
      const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 } };
      trend.hidden = false;
      const size = () => ({ width: trend.clientWidth, height: 240 });
      const plot = new uPlot({
        ...size(),
        tzDate: (seconds) => uPlot.tzDate(new Date(1000 * seconds), trend.dataset.zone),
        axes: [axis, { ...axis, label: "dBFS" }],
        series: [
          {},
          { label: "level", stroke: colour("--l8"), width: 1 },
          { label: "noise floor", stroke: colour("--bad"), width: 1 },
        ],
      }, [
        levels.map((one) => Date.parse(one.time) / 1000),
        levels.map((one) => one.rms_dbfs),
        levels.map((one) => one.noise_floor_dbfs),
      ], trend);
      addEventListener("resize", () => plot.setSize(size()));
    }).catch(() => { trend.hidden = true; });
  }
})();
