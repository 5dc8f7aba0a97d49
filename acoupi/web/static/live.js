// What happens at the sensor now: one stream of events, a picture that moves, and sound.
// It fills <section id="live" data-live="…" data-listen="…">; listening is left out without the
// second address. Nothing is asked for while the tab is hidden.
"use strict";

(() => {
  const section = document.getElementById("live");
  if (!section || !window.EventSource) return;

  const SECONDS = 30; // that the picture shows
  const SILENT_MS = 25000; // the sensor says something every 10 s: after this the line is dead
  const AGAIN_MS = 10000;
  const BEHIND_S = 0.3; // how much sound is kept ready, because it comes in pieces
  const CIVIDIS = ["00224e", "123570", "3b496c", "575d6d", "707173",
    "8a8678", "a59c74", "c3b369", "e1cc55", "fee838"];

  const make = (name, to, properties = {}) => {
    const one = Object.assign(document.createElement(name), properties);
    to.append(one);
    return one;
  };

  // --- what is shown ---------------------------------------------------------------------------

  const frame = make("div", section, { className: "waterfall" });
  const canvas = make("canvas", frame, { width: 600, height: 256 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Spectrogram of the last ${SECONDS} seconds, the newest at the right`);
  const context = canvas.getContext("2d", { alpha: false });
  const scale = make("div", frame, { className: "kilohertz" });
  scale.setAttribute("aria-hidden", "true");
  const controls = make("p", section, { className: "live-controls" });
  const label = make("label", controls, { textContent: "Level " });
  const meter = make("meter", label, { min: -100, max: 0, low: -90, high: -3, optimum: -40, value: -100 });
  const level = make("span", controls, { className: "number", textContent: "–" });
  const pause = make("button", controls, { type: "button", textContent: "Pause the picture" });
  const said = make("p", section, { className: "note" });
  said.setAttribute("role", "status");
  section.hidden = false;

  let isPaused = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const showPaused = () => {
    pause.textContent = isPaused ? "Show the picture" : "Pause the picture";
  };
  pause.addEventListener("click", () => { isPaused = !isPaused; showPaused(); });
  showPaused();

  const say = (text) => { if (said.textContent !== text) said.textContent = text; };

  // --- the picture -----------------------------------------------------------------------------

  const anchors = CIVIDIS.map((text) => [0, 2, 4].map((at) => parseInt(text.slice(at, at + 2), 16)));
  const palette = Array.from({ length: 256 }, (_, number) => {
    const place = (number / 255) * (anchors.length - 1);
    const below = Math.min(Math.floor(place), anchors.length - 2);
    return anchors[below].map((from, part) => from + (anchors[below + 1][part] - from) * (place - below));
  });

  let picture = null; // what the recorder says of its columns
  let last = 0; // number of the last column
  let noise = null; // level of the background, as a byte

  const begin = (head) => {
    picture = head.bins ? head : null;
    last = 0;
    noise = null;
    canvas.width = picture ? SECONDS * picture.columns_per_second : 600;
    canvas.height = picture ? picture.bins : 256;
    context.fillStyle = `#${CIVIDIS[0]}`;
    context.fillRect(0, 0, canvas.width, canvas.height);
    scale.replaceChildren();
    if (!picture) {
      meter.value = meter.min;
      level.textContent = "–";
      say("No sound comes now: the microphone is closed, or nothing is recorded.");
      return;
    }
    say("");
    const octaves = Math.log2(picture.high_hz / picture.low_hz);
    for (const kilohertz of [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200]) {
      const share = Math.log2((1000 * kilohertz) / picture.low_hz) / octaves;
      if (share < 0.03 || share > 0.97) continue;
      make("span", scale, { textContent: `${kilohertz} kHz` }).style.bottom = `${100 * share}%`;
    }
  };

  const draw = (number, columns) => {
    const { bins } = picture;
    const count = columns.length / bins;
    let sum = 0;
    for (const value of columns) sum += value;
    const mean = sum / columns.length;
    noise = noise === null ? mean : noise + (mean - noise) * Math.min(1, 0.02 * count);
    // The background is dark, but can be seen; 50 dB to the brightest.
    const low = noise - 6 / picture.step_db, range = 50 / picture.step_db;
    const missed = last ? Math.max(0, number - count - last) : 0;
    last = number;
    const by = Math.min(count + missed, canvas.width);
    context.drawImage(canvas, -by, 0);
    if (missed) context.fillRect(canvas.width - by, 0, by, canvas.height);
    const image = context.createImageData(count, bins);
    for (let column = 0; column < count; column++) {
      for (let bin = 0; bin < bins; bin++) {
        const share = (columns[column * bins + bin] - low) / range;
        const colour = palette[Math.max(0, Math.min(255, Math.round(255 * share)))];
        const at = 4 * ((bins - 1 - bin) * count + column);
        image.data[at] = colour[0];
        image.data[at + 1] = colour[1];
        image.data[at + 2] = colour[2];
        image.data[at + 3] = 255;
      }
    }
    context.putImageData(image, canvas.width - count, 0);
  };

  // --- events ----------------------------------------------------------------------------------

  let source = null;
  let heardOn = 0;
  let refresh = null;
  const problems = new Map();

  const on = (kind, act) => source.addEventListener(kind, (event) => {
    heardOn = Date.now();
    act(JSON.parse(event.data));
  });
  // The tables of the page are brought up to date at once, but not ten times in a burst.
  const changed = () => {
    refresh ??= setTimeout(() => {
      refresh = null;
      document.dispatchEvent(new Event("acoupi:heard"));
    }, 150);
  };

  const open = () => {
    close();
    if (document.hidden) return;
    heardOn = Date.now();
    const own = (source = new EventSource(section.dataset.live));
    on("picture", begin);
    on("columns", (content) => {
      meter.value = content.rms_dbfs;
      level.textContent = `${Math.round(content.rms_dbfs)} dBFS, peak ${Math.round(content.peak_dbfs)}`;
      if (isPaused || !picture) return;
      draw(content.number, Uint8Array.from(atob(content.columns), (one) => one.charCodeAt(0)));
    });
    for (const kind of ["detection", "recording", "now"]) on(kind, changed);
    on("problem", (content) => {
      problems.set(content.asked_for, content.error);
      const [error] = [...problems.values()].filter(Boolean);
      if (error) say(`The sensor does not answer: ${error}`);
      else if (picture) say("");
    });
    on("beat", () => {});
    source.onerror = () => {
      if (own !== source) return;
      say("The line to the sensor is broken; trying again.");
      // A browser tries again by itself, unless it was refused.
      if (own.readyState === EventSource.CLOSED) later();
    };
  };
  const close = () => {
    if (source) source.close();
    source = null;
    problems.clear();
  };
  let waiting = null;
  const later = () => { waiting ??= setTimeout(() => { waiting = null; open(); }, AGAIN_MS); };
  // Some browsers keep a dead line after sleeping, and never say so.
  setInterval(() => {
    if (source && !waiting && Date.now() - heardOn > SILENT_MS) open();
  }, 5000);

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return open();
    close();
    stopListening();
  });
  addEventListener("pagehide", () => { close(); stopListening(); });
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });

  // --- sound -----------------------------------------------------------------------------------

  let listening = null; // what ends it
  let stopListening = () => {};

  if (section.dataset.listen && (window.AudioContext || window.webkitAudioContext)) {
    const button = make("button", controls, { type: "button", textContent: "Listen" });
    const amplify = make("label", controls, { textContent: "Louder " });
    const gain = make("input", amplify, { type: "range", min: 0, max: 40, value: 0 });

    stopListening = () => { if (listening) listening.abort(); };
    button.addEventListener("click", () => {
      if (listening) return stopListening();
      listening = new AbortController();
      button.textContent = "Stop listening";
      // Made by the click: otherwise browsers keep it silent.
      const output = new (window.AudioContext || window.webkitAudioContext)();
      const volume = output.createGain();
      volume.connect(output.destination);
      const louder = () => { volume.gain.value = 10 ** (gain.value / 20); };
      gain.addEventListener("input", louder);
      louder();
      listen(output, volume, listening.signal).catch((error) => {
        if (error.name !== "AbortError") say(`You cannot listen: ${error.message}`);
      }).finally(() => {
        gain.removeEventListener("input", louder);
        output.close();
        listening = null;
        button.textContent = "Listen";
      });
    });
  }

  const listen = async (output, volume, signal) => {
    output.resume();
    const answer = await fetch(section.dataset.listen, { signal, cache: "no-store" });
    if (!answer.ok) {
      const told = await answer.json().catch(() => ({}));
      throw new Error([told.error, told.why].filter(Boolean).join(" ") || `status ${answer.status}`);
    }
    const reader = answer.body.getReader();
    let bytes = new Uint8Array(0);
    let rate = 0;
    let next = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Error("no more sound comes.");
      const joined = new Uint8Array(bytes.length + value.length);
      joined.set(bytes);
      joined.set(value, bytes.length);
      bytes = joined;
      if (!rate) { // the head of a WAV file
        if (bytes.length < 44) continue;
        rate = new DataView(bytes.buffer).getUint32(24, true);
        bytes = bytes.slice(44);
      }
      const count = Math.floor(bytes.length / 2);
      if (count < rate / 20) continue;
      const view = new DataView(bytes.buffer, bytes.byteOffset, 2 * count);
      const buffer = output.createBuffer(1, count, rate);
      const samples = buffer.getChannelData(0);
      for (let at = 0; at < count; at++) samples[at] = view.getInt16(2 * at, true) / 32768;
      bytes = bytes.slice(2 * count);
      // Too late: a short gap. Much too early: left out, or the sound would lag behind for ever.
      if (next > output.currentTime + 4 * BEHIND_S) continue;
      if (next < output.currentTime) next = output.currentTime + BEHIND_S;
      const piece = output.createBufferSource();
      piece.buffer = buffer;
      piece.connect(volume);
      piece.start(next);
      next += buffer.duration;
    }
  };

  begin({});
  say("");
  open();
})();
