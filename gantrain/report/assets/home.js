// The page of all runs. It updates the status of those that are running.
"use strict";

(async () => {
  const { load, make, choice, number, duration, moment, stateOf, secondsOf, secondsLeft, pill, setText } = gantrain;
  const EVERY = 5000; // Milliseconds between updates.
  const { runs } = await load("runs");
  const cards = new Map();
  let wanted = { words: "", state: "" };

  function card(run) {
    const folder = run.folder;
    const parts = {
      pill: make("span", { class: "pill" }),
      text: make("p", {}),
      bar: make("progress", { "aria-label": "progress" }),
      image: make("img", { alt: "", loading: "lazy", onerror: () => (parts.image.hidden = true) }),
    };
    const what = [run.model, run.data].filter(Boolean).join(" · ");
    parts.element = make(
      "li",
      { class: "run" },
      make("div", { class: "thumbnail" }, parts.image),
      make(
        "div",
        { class: "words" },
        make("a", { href: `${folder}/index.html` }, run.name),
        make("p", {}, what),
        make("div", { class: "status" }, parts.pill),
        parts.bar,
        parts.text,
      ),
    );
    parts.box = make("input", { type: "checkbox", "aria-label": `compare ${run.name}`, onchange: compare });
    parts.element.append(make("label", { class: "pick" }, parts.box));
    parts.folder = folder;
    return parts;
  }

  function show(parts, run) {
    parts.run = run;
    const state = stateOf(run);
    pill(parts.pill, run);
    parts.bar.hidden = !run.total;
    if (run.total) {
      parts.bar.max = run.total;
      parts.bar.value = Math.min(run.done, run.total);
    }
    const left = secondsLeft(run);
    const texts = [moment(run.opened), run.step === undefined ? null : `step ${number(run.step)}`];
    if (state === "running" && Number.isFinite(left)) texts.push(`${duration(left)} left`);
    const trained = (run.ran ?? 0) + secondsOf(run);
    if (state !== "running" && Number.isFinite(trained)) texts.push(`ran for ${duration(trained)}`);
    if (run.reason) texts.push(run.reason);
    setText(parts.text, texts.filter(Boolean).join(" · "));
    parts.image.hidden = !run.thumbnail;
    const source = `${parts.folder}/${run.thumbnail}?${run.opened}`; // The same key as on the page of the run.
    if (run.thumbnail && parts.image.getAttribute("src") !== source) parts.image.src = source;
    choose(parts);
  }

  function choose(parts) {
    const words = `${parts.run.name} ${parts.run.sweep ?? ""} ${parts.run.model ?? ""} ${parts.run.data ?? ""}`.toLowerCase();
    const fits = words.includes(wanted.words) && (!wanted.state || stateOf(parts.run) === wanted.state);
    parts.element.hidden = !fits;
    const group = parts.element.closest("details");
    if (group) group.hidden = [...group.querySelectorAll("li.run")].every((element) => element.hidden);
  }

  function chooseAll(change) {
    wanted = { ...wanted, ...change };
    for (const parts of cards.values()) choose(parts);
  }

  /** Show the command that compares the runs that are checked. */
  function compare() {
    const chosen = [...cards.values()].filter(({ box }) => box.checked);
    const quoted = chosen.map(({ run }) => (/^[\w@%+=:,./-]+$/.test(run.path) ? run.path : `'${run.path.replaceAll("'", `'"'"'`)}'`));
    const section = document.getElementById("chosen");
    section.hidden = chosen.length === 0;
    const command = `gantrain compare ${quoted.join(" ")}`;
    const copy = make("button", { type: "button", onclick: () => navigator.clipboard?.writeText(command) }, "copy");
    const clear = make("button", { type: "button", onclick: () => {
      for (const { box } of chosen) box.checked = false;
      compare();
    } }, "clear");
    const hint = chosen.length < 2 ? "Check two runs or more to compare them." : `This command compares the ${chosen.length} runs on a page:`;
    section.replaceChildren(
      make("div", { class: "controls" }, make("span", {}, hint), ...(chosen.length < 2 ? [clear] : [copy, clear])),
      ...(chosen.length < 2 ? [] : [make("pre", {}, make("code", {}, command))]),
    );
  }

  /** The runs of a sweep are in one group, in the place of the newest. */
  const place = document.getElementById("runs");
  const groups = new Map();
  for (const run of runs) {
    const parts = card(run);
    cards.set(run.folder, parts);
    const together = run.sweep && runs.filter(({ sweep }) => sweep === run.sweep).length > 1 ? run.sweep : null;
    if (!together && place.lastChild?.tagName !== "UL") place.append(make("ul", { class: "runs" }));
    if (together && !groups.has(together)) {
      const list = make("ul", { class: "runs" });
      const text = `sweep ${together}: ${runs.filter(({ sweep }) => sweep === together).length} runs`;
      const link = run.comparison ? make("p", {}, make("a", { href: run.comparison }, "their comparison")) : null;
      groups.set(together, list);
      place.append(make("details", { class: "group", open: true }, make("summary", {}, text), link, list));
    }
    (together ? groups.get(together) : place.lastChild).append(parts.element);
    show(parts, run);
  }
  if (!runs.length) place.append(make("p", {}, "There are no runs yet."));
  const search = make("input", { type: "search", oninput: () => chooseAll({ words: search.value.toLowerCase() }) });
  document.getElementById("controls").append(
    make("label", { class: "wide" }, make("span", {}, "find"), search),
    choice(
      "show",
      [["", "all"], ...["running", "done", "stopped", "crashed", "silent", "unknown"].map((state) => [state, state])],
      (state) => chooseAll({ state }),
    ),
    make("span", { class: "hint" }, `${runs.length} ${runs.length === 1 ? "run" : "runs"}`),
  );

  async function look() {
    const running = [...cards.values()].filter(({ run }) => run.state === "running");
    for (const parts of running) {
      try {
        const { status } = await load(parts.run.live);
        show(parts, { ...parts.run, ...status, name: parts.run.name });
      } catch {
        show(parts, parts.run); // It has ended, or is silent.
      }
    }
    if (running.length) setTimeout(look, EVERY);
  }
  look();
})();
