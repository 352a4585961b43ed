// The page of a run. While the run is training, the page loads its data again and adds what is new.
"use strict";

(() => {
  const { load, make, choice, setText, setFacts, labelOf, number, duration, moment, stateOf, secondsOf, secondsLeft, pill, sizeOf, setSize, sortable, tile, enlarge } = gantrain;
  const EVERY = 3000; // Milliseconds between updates of a running run.
  const FRAMES = 5; // Images per second when playing.
  const COLUMNS = 24; // Steps shown of each preview image.
  const SMALL = 128; // Pixels; smaller images are enlarged without smoothing.
  const byId = (id) => document.getElementById(id);

  const files = []; // Lines by table, of each file of the log.
  let known = {}; // The status that the lines belong to.

  // A run that resumed from an earlier step, or started over, has other images with the same names, and browsers cache the
  // old ones.
  const addressOf = (entry) => `${entry.url}?${known.opened}`;
  const rows = (table) => files.flatMap((file) => file[table] ?? []);

  // ---- status

  function showStatus(status) {
    const state = stateOf(status);
    pill(byId("pill"), status);
    const bar = byId("progress");
    bar.max = status.total;
    bar.value = Math.min(status.done, status.total);
    setText(byId("share"), `${Math.floor((100 * Math.min(status.done, status.total)) / status.total)} %`);
    byId("reason").hidden = !status.reason;
    setText(byId("reason"), status.reason ?? "");
    const left = secondsLeft(status);
    setFacts(byId("facts"), {
      step: number(status.step),
      epoch: status.epoch === undefined ? null : number(status.epoch),
      kimg: status.kimg === undefined ? null : number(status.kimg),
      "time left": state === "running" ? (Number.isFinite(left) ? duration(left) : "–") : null,
      "images per second": status.speed ? number(status.speed.images_per_second) : null,
      "waiting for data": status.speed ? `${Math.round(100 * status.speed.data_wait)} % of the time` : null,
      started: moment(status.started),
      [state === "running" ? "running for" : "ran for"]: duration((status.ran ?? 0) + secondsOf(status)),
      ...Object.fromEntries(Object.entries(status.values ?? {}).map(([name, value]) => [name, number(value)])),
    });
    document.title = state === "running" ? `${byId("share").textContent} ${name}` : name;
  }

  // ---- notes

  // The sections of the help on what notes contain.
  const TOPICS = {
    "mode collapse": "all-samples-are-alike",
    "discriminator has won": "the-discriminator-wins",
    memorising: "memorised-images",
    "has not improved": "it-gets-worse-again",
  };
  const helpOn = (topic, text) => make("a", { href: `index_files/help.html#${topic}` }, text);

  function noteOf({ step, note }) {
    const known = Object.keys(TOPICS).find((words) => note.includes(words));
    return make("li", {}, `Step ${number(step)}: ${note}. `, known && helpOn(TOPICS[known], "What helps"));
  }

  function showNotes() {
    const lines = rows("notes");
    byId("notes").hidden = lines.length === 0;
    byId("notes").querySelector("ul").replaceChildren(...lines.map(noteOf));
  }

  // ---- metrics of generated images

  const numbersOf = (line) => Object.fromEntries(Object.entries(line).filter(([, value]) => typeof value === "number"));
  const chartOf = (name) => (name.includes("_class_") ? `${name.split("_class_")[0]} by class` : name);

  function showMetrics() {
    const lines = rows("metrics");
    const section = byId("metrics");
    section.hidden = lines.length === 0;
    if (section.hidden) return;
    const newest = new Map();
    const best = new Map();
    for (const line of lines) {
      for (const [name, value] of Object.entries(numbersOf(line))) {
        if (NO_VALUES.has(name)) continue;
        newest.set(name, { step: line.step, value });
        const before = best.get(name);
        const higher = (known.higher ?? []).includes(name.replace(/(_(a_to_b|b_to_a))?(_class_.*)?$/, ""));
        const better = higher ? value > before?.value : value < before?.value;
        if (!before || better) best.set(name, { step: line.step, value });
      }
    }
    const entries = (wanted) => [...newest].filter(([name]) => name.includes("_class_") === wanted);
    const row = ([name, { value }]) =>
      make("tr", {}, make("th", { scope: "row" }, labelOf(name)), make("td", {}, number(value)), make("td", {}, number(best.get(name).value)),
        make("td", {}, make("button", { type: "button", class: "plain", title: "show the samples of this step", onclick: () => goToStep(best.get(name).step) }, number(best.get(name).step))));
    const table = (chosen) =>
      make("div", { class: "scroll" }, make("table", {},
        make("thead", {}, make("tr", {}, ...["metric", "newest", "best", "at step"].map((text) => make("th", { scope: "col" }, text)))),
        make("tbody", {}, ...chosen.map(row))));
    const classes = entries(true);
    const isOpen = section.querySelector("details")?.open ?? false;
    section.replaceChildren(section.firstElementChild, table(entries(false)),
      ...(classes.length ? [make("details", { open: isOpen }, make("summary", {}, "by class"), table(classes))] : []),
      make("p", { class: "hint" }, `Newest: step ${number(lines.at(-1).step)}; ${lines.at(-1).protocol}. `, helpOn("metrics-and-protocols", "How metrics are measured")));
  }

  /** Show the samples of a step, or the last ones before it. */
  function goToStep(step) {
    const all = steps();
    const index = all.findLastIndex((each) => each <= step);
    if (index < 0) return;
    stop();
    goTo(index);
    byId("samples").scrollIntoView({ behavior: "smooth", block: "nearest" });
  }

  // ---- curves

  const L1 = "L1 (values in [0, 1])";
  const TITLES = { g: "generator", d: "discriminator", lr: "learning rate", cycle: "cycle consistency", idt: "identity" };
  const NO_VALUES = new Set(["step", "epoch", "kimg", "time"]);
  let curves = null;

  function showCurves() {
    curves ??= gantrain.curves(byId("curves"), { axes: ["step", "epoch", "kimg"] });
    const groups = new Map();
    const collect = (lines, titleOf) => {
      const names = new Set(lines.flatMap((line) => Object.keys(line)));
      for (const name of names) {
        if (NO_VALUES.has(name)) continue;
        const title = titleOf(name);
        if (!groups.has(title)) groups.set(title, []);
        groups.get(title).push({ name, key: name, lines });
      }
    };
    const segments = (known.segments ?? []).filter(({ step }) => step > 0).map(({ step, changes }) => ({ step, text: changes.join("\n") }));
    curves.mark([...segments, ...rows("notes").map(({ step }) => ({ step, text: "note", listed: false }))]);
    collect(rows("losses"), (name) => (/(^|_)l1$/.test(name) ? L1 : (TITLES[name.split("_")[0]] ?? name)));
    const measured = rows("metrics").map(numbersOf);
    collect(measured, chartOf);
    const titles = { images_per_second: "images per second", data_wait: "waiting for data (fraction of the time)" };
    collect(rows("speed"), (name) => titles[name] ?? name);
    const last = ["learning rate", ...Object.values(titles)];
    const order = [...measured.flatMap(Object.keys).map(chartOf), "generator", "discriminator", ...[...groups.keys()].filter((title) => !last.includes(title)), ...last];
    curves.show([...new Set(order)].filter((title) => groups.has(title)).map((title) => ({ title, series: groups.get(title) })));
  }

  // ---- samples

  const samples = { at: null, last: 0, film: null }; // A step, or null for the newest.

  function steps() {
    return [...new Set(rows("images").map((entry) => entry.step))].sort((one, other) => one - other);
  }

  function buildSamples(section) {
    samples.slider = make("input", { type: "range", min: 0, step: 1, "aria-label": "step of the samples", oninput: () => {
      stop();
      goTo(Number(samples.slider.value));
    } });
    samples.output = make("output", {});
    samples.play = make("button", { type: "button", onclick: () => (samples.film ? stop() : play()) }, "▶ play");
    section.append(
      make("div", { class: "controls" }, samples.play, make("label", { class: "wide" }, make("span", {}, "step"), samples.slider, samples.output)),
      make("div", { class: "frames" }),
    );
  }

  function goTo(index) {
    const all = steps();
    samples.at = index >= all.length - 1 ? null : all[index];
    showFrame();
  }

  function showFrame() {
    const all = steps();
    if (!all.length) return;
    const step = samples.at ?? all[all.length - 1];
    samples.slider.max = all.length - 1;
    samples.slider.value = all.indexOf(step);
    samples.slider.setAttribute("aria-valuetext", `step ${step}`);
    setText(samples.output, step.toLocaleString("en"));
    const frames = byId("samples").querySelector(".frames");
    const shown = rows("images").filter((entry) => entry.step === step);
    for (const entry of shown) {
      let figure = [...frames.children].find((child) => child.dataset.what === entry.what);
      if (!figure) {
        const image = make("img", { alt: "" });
        const open = make("button", { type: "button", class: "plain image", "aria-label": `enlarge ${entry.what}`, onclick: () => large(entry.what) }, image);
        figure = make("figure", { "data-what": entry.what }, make("figcaption", {}, ""), open);
        frames.append(figure);
      }
      const image = figure.querySelector("img");
      const kinds = entry.kinds ?? [entry.what];
      if (figure.dataset.kinds !== kinds.join()) {
        figure.dataset.kinds = kinds.join(); // Each caption is over its column.
        figure.firstChild.replaceChildren(...kinds.map((kind) => make("span", {}, kind)));
      }
      image.alt = `${entry.what} at step ${step}`;
      image.classList.toggle("small", (entry.width ?? 0) <= SMALL);
      setSize(image, sizeOf(entry));
      if (image.getAttribute("src") !== addressOf(entry)) image.src = addressOf(entry);
    }
    for (const figure of frames.children) figure.hidden = !shown.some((entry) => entry.what === figure.dataset.what);
  }

  function large(what) {
    stop();
    const all = rows("images").filter((entry) => entry.what === what);
    const now = samples.at ?? steps().at(-1);
    enlarge({
      count: all.length,
      start: Math.max(0, all.findIndex((entry) => entry.step === now)),
      show: (index) => ({
        title: `${(all[index].kinds ?? [what]).join(" | ")}, step ${all[index].step.toLocaleString("en")}`,
        content: make("img", { src: addressOf(all[index]), alt: `${what} at step ${all[index].step}`, class: (all[index].width ?? 0) <= SMALL ? "small whole" : "whole" }),
      }),
      closed: (index) => goTo(steps().indexOf(all[index].step)),
    });
  }

  function play() {
    const all = steps();
    let index = samples.at === null ? 0 : all.indexOf(samples.at);
    setText(samples.play, "❚❚ pause");
    const next = async () => {
      goTo(index);
      // Wait until the images are loaded, so that none is skipped.
      const images = [...byId("samples").querySelectorAll("figure:not([hidden]) img")];
      await Promise.allSettled(images.map((image) => image.decode()));
      if (samples.film === null) return;
      index += 1;
      if (index >= steps().length) return stop();
      samples.film = setTimeout(next, 1000 / FRAMES);
    };
    samples.film = 0;
    next();
  }

  function stop() {
    clearTimeout(samples.film);
    samples.film = null;
    setText(samples.play, "▶ play");
  }

  function showSamples() {
    const all = steps();
    const section = byId("samples");
    section.hidden = all.length === 0;
    if (section.hidden) return;
    if (!samples.slider) buildSamples(section);
    if (!all.includes(samples.at)) samples.at = null; // The run resumed from an earlier step.
    showFrame();
  }

  // ---- preview images over time

  const through = { kind: null, count: null };

  function showThroughTime() {
    const lines = rows("images").filter((entry) => entry.kinds);
    if (lines.length === through.count) return;
    through.count = lines.length;
    const section = byId("through");
    section.hidden = lines.length === 0;
    if (section.hidden) return;
    const last = lines.at(-1);
    const made = last.kinds.filter((kind) => !kind.startsWith("real"));
    through.kind ??= made[0];
    if (!section.querySelector(".film")) {
      section.append(
        make("div", { class: "controls" }, choice("show", made.map((kind) => [kind, kind]), (kind) => {
          through.kind = kind;
          through.count = null;
          showThroughTime();
        })),
        make("div", { class: "scroll" }, make("table", { class: "film" })),
      );
    }
    // Evenly spread steps, the first and the last among them.
    const count = Math.min(COLUMNS, lines.length);
    const chosen = Array.from({ length: count }, (_, place) => lines[Math.round((place * (lines.length - 1)) / Math.max(1, count - 1))]);
    const ends = last.kinds.filter((kind) => kind.startsWith("real"));
    const [source, ...targets] = relevant(through.kind, ends);
    const head = [source, ...chosen.map(({ step }) => `step ${step.toLocaleString("en")}`), ...targets];
    const cell = (entry, kind, row) => {
      const column = entry.kinds.indexOf(kind);
      return make("td", {}, tile({ ...entry, url: addressOf(entry) }, column, row, `${kind} of preview ${row + 1}, step ${entry.step}`));
    };
    const body = Array.from({ length: last.rows }, (_, row) =>
      make("tr", {}, cell(last, source, row), ...chosen.map((entry) => cell(entry, through.kind, row)), ...targets.map((kind) => cell(last, kind, row))));
    const table = section.querySelector(".film");
    const scroller = table.parentElement;
    const place = scroller.scrollLeft;
    table.classList.toggle("small", last.width <= SMALL);
    table.style.setProperty("--columns", head.length);
    table.replaceChildren(make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))), make("tbody", {}, ...body));
    scroller.scrollLeft = place;
  }

  /** The real kinds, first the input of `kind` and then its target: fake_b is generated from real_a, rec_a should equal real_a. */
  function relevant(kind, ends) {
    const domain = kind.split("_")[1];
    const same = ends.filter((end) => end.split("_")[1] === domain);
    const other = ends.filter((end) => end.split("_")[1] !== domain);
    if (kind.startsWith("fake")) return [...other, ...same];
    return kind.startsWith("rec") ? [...same] : [...other];
  }

  // ---- updates

  async function refresh() {
    const { status } = await load("status");
    const again = status.opened !== known.opened; // The run may have resumed from an earlier step.
    if (again) files.length = 0;
    const more = again || status.lines !== known.lines;
    if (more) {
      // The last file may have grown, and there may be new ones; the earlier ones are full.
      for (let number_ = Math.max(0, files.length - 1); number_ < status.files; number_++) {
        const grown = number_ === status.files - 1 ? `-${status.lines}` : "";
        files[number_] = await load(`log_${number_}`, { key: `${status.opened}${grown}` });
      }
    }
    known = status;
    if (more) {
      if (again) through.count = null;
      showSamples();
      showNotes();
      showMetrics();
      showThroughTime();
      showCurves();
    }
    showStatus(status);
  }

  const name = document.title;

  async function showResults() {
    const { results } = await load("results");
    if (results.length)
      byId("nav").append(...results.map(({ name: text, url }) => make("a", { href: url }, `results ${text}`)));
  }

  /** A table of what `gantrain evaluate` has measured, and curves of several checkpoints. */
  async function showEvaluations() {
    const { evaluations } = await load("evaluations");
    if (!evaluations.length) return;
    const section = byId("evaluations");
    section.hidden = false;
    const names = [...new Set(evaluations.flatMap((line) => Object.keys(numbersOf(line))))].filter((name) => name !== "step" && !name.includes("_class_"));
    const heads = ["step", ...names.map(labelOf), "protocol"];
    const cells = (line) => [line.step, ...names.map((name) => line[name] ?? ""), line.protocol];
    const table = make("table", {},
      make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...evaluations.map((line) => make("tr", {}, ...cells(line).map((value) => make("td", { "data-value": value }, typeof value === "number" ? number(value) : value))))));
    section.append(make("div", { class: "scroll" }, table));
    sortable(table);
  }

  async function watch() {
    try {
      await refresh();
    } catch (error) {
      setText(byId("reason"), String(error.message ?? error));
      byId("reason").hidden = false;
    }
    if ((known.state ?? "running") === "running") setTimeout(watch, EVERY);
  }

  watch();
  showResults();
  showEvaluations();
})();
