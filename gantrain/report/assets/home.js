// The page of all runs. It updates the status of those that are running.
"use strict";

(async () => {
  const { load, make, choice, number, duration, moment, stateOf, pill, setText } = gantrain;
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
    const seconds = run.time - run.opened;
    const left = ((run.total - run.done) * seconds) / (run.done - run.begun);
    const texts = [moment(run.opened), run.step === undefined ? null : `step ${number(run.step)}`];
    if (state === "running" && Number.isFinite(left)) texts.push(`${duration(left)} left`);
    if (run.reason) texts.push(run.reason);
    setText(parts.text, texts.filter(Boolean).join(" · "));
    parts.image.hidden = !run.thumbnail;
    const source = `${parts.folder}/${run.thumbnail}?${run.opened}`; // The same key as on the page of the run.
    if (run.thumbnail && parts.image.getAttribute("src") !== source) parts.image.src = source;
    choose(parts);
  }

  function choose(parts) {
    const words = `${parts.run.name} ${parts.run.model ?? ""} ${parts.run.data ?? ""}`.toLowerCase();
    const fits = words.includes(wanted.words) && (!wanted.state || stateOf(parts.run) === wanted.state);
    parts.element.hidden = !fits;
  }

  function chooseAll(change) {
    wanted = { ...wanted, ...change };
    for (const parts of cards.values()) choose(parts);
  }

  const list = make("ul", { class: "runs" });
  for (const run of runs) {
    const parts = card(run);
    cards.set(run.folder, parts);
    show(parts, run);
    list.append(parts.element);
  }
  document.getElementById("runs").append(runs.length ? list : make("p", {}, "There are no runs yet."));
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
        const { status } = await load("status", { folder: parts.folder });
        show(parts, { ...parts.run, ...status, name: parts.run.name });
      } catch {
        parts.run.state = "gone"; // Its folder was deleted or moved.
        show(parts, parts.run);
      }
    }
    if (running.length) setTimeout(look, EVERY);
  }
  look();
})();
