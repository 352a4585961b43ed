"use strict";
// The page of an exported model. The model, the runtime and the facts about them are in the page itself.
const facts = JSON.parse(document.getElementById("facts").textContent);
const find = (id) => document.getElementById(id);
const status = (text, failed = false) => {
  find("status").textContent = text;
  find("status").className = failed ? "failed" : "";
};

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(find(id).textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// ---- the model

const worker = new Worker(
  URL.createObjectURL(new Blob([find("runtime").textContent, "\n", find("worker").textContent], { type: "text/javascript" })),
);
const waiting = new Map();
let count = 0;

function ask(message, transfer = []) {
  return new Promise((resolve, reject) => {
    waiting.set(message.id, { resolve, reject });
    worker.postMessage(message, transfer);
  });
}

worker.onmessage = ({ data }) => {
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.failed) reject(new Error(data.failed));
  else resolve(data);
};
worker.onerror = (event) => status(`The model can't run in this browser: ${event.message}`, true);

async function load() {
  const models = {};
  for (const { name } of facts.models) models[name] = await unpacked(`model-${name}`);
  const setup = { wasm: await unpacked("wasm"), module: await unpacked("module"), models };
  await ask({ setup });
}

const apply = (name, inputs) => ask({ id: ++count, name, inputs });

// Runs a job again if it was asked for while it ran, and only once however often.
function repeated(job) {
  let running = false, again = false;
  return async () => {
    if (running) { again = true; return; }
    running = true;
    do {
      again = false;
      try {
        await job();
      } catch (error) {
        status(error.message, true);
      }
    } while (again);
    running = false;
    document.body.dataset.done = String(Number(document.body.dataset.done || 0) + 1);
  };
}

// ---- images

// Values (C, H, W) in [-1, 1] of a canvas.
function valuesOf(canvas, channels) {
  const { width, height } = canvas, area = width * height;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const values = new Float32Array(channels * area);
  for (let place = 0; place < area; place++) {
    const [red, green, blue] = data.subarray(4 * place, 4 * place + 3);
    // Pillow's conversion to gray.
    const levels = channels === 1 ? [(red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16] : [red, green, blue];
    levels.forEach((level, channel) => { values[channel * area + place] = level / 127.5 - 1; });
  }
  return values;
}

function show(canvas, values, [, channels, height, width]) {
  canvas.width = width;
  canvas.height = height;
  canvas.classList.toggle("small", Math.max(width, height) <= 128);
  const pixels = new ImageData(width, height), area = width * height;
  for (let place = 0; place < area; place++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = values[Math.min(channel, channels - 1) * area + place];
      pixels.data[4 * place + channel] = Math.round((Math.max(-1, Math.min(1, value)) + 1) * 127.5);
    }
    pixels.data[4 * place + 3] = 255;
  }
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(pixels, 0, 0);
}

function save(canvas) {
  const link = document.createElement("a");
  link.download = `${facts.run}.png`;
  link.href = canvas.toDataURL("image/png");
  link.click();
}

// ---- translation

function translation() {
  const input = find("input"), output = find("output"), pair = find("pair");
  const context = input.getContext("2d", { willReadFrequently: true });
  const past = [];
  let side = Math.max(facts.height, facts.width);
  const current = () => facts.models[find("direction").selectedIndex];

  const update = repeated(async () => {
    const { name, channels } = current(), { width, height } = input;
    if (width * height > 200 * 200) status("Working …");
    const start = performance.now();
    const data = valuesOf(input, channels);
    const result = await apply(name, { image: { type: "float32", data, shape: [1, channels, height, width] } });
    show(output, result.output, result.shape);
    status(`${width} × ${height} pixels, ${Math.round(performance.now() - start)} ms`);
  });

  const resize = (width, height) => {
    input.width = width;
    input.height = height;
    input.classList.toggle("small", Math.max(width, height) <= 128);
  };
  const clear = () => {
    const scale = side / Math.max(facts.height, facts.width);
    resize(Math.round(facts.width * scale), Math.round(facts.height * scale));
    context.fillStyle = current().background;
    context.fillRect(0, 0, input.width, input.height);
    past.length = 0;
    find("pen").value = current().pen;
    update();
  };
  const open = (image, width, height) => {
    const scale = side / Math.max(width, height);
    resize(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, input.width, input.height);
    past.length = 0;
    update();
  };
  const openFile = async (file) => {
    try {
      const image = await createImageBitmap(file);
      open(image, image.width, image.height);
    } catch {
      status(`${file.name} is no image that this browser can read`, true);
    }
  };

  for (const { name, text } of facts.models) find("direction").add(new Option(text, name));
  find("directions").hidden = facts.models.length === 1;
  for (const each of [...new Set([32, 64, 128, 256, 512, 1024, side])].sort((a, b) => a - b)) {
    find("size").add(new Option(`${each} pixels`, each, each === side, each === side));
  }
  const samples = () => {
    find("examples").replaceChildren(...current().examples.map((address) => {
      const image = new Image();
      image.src = address;
      image.alt = "A test image";
      image.onclick = () => open(image, image.naturalWidth, image.naturalHeight);
      return image;
    }));
  };
  find("direction").onchange = () => { samples(); clear(); };
  find("size").onchange = () => { side = Number(find("size").value); find("width").value = side / 20; clear(); };
  find("file").onchange = () => find("file").files.length && openFile(find("file").files[0]);
  find("clear").onclick = clear;
  find("undo").onclick = () => {
    if (past.length) { context.putImageData(past.pop(), 0, 0); update(); }
  };
  find("compare").onclick = () => {
    const on = pair.classList.toggle("comparing");
    find("compare").setAttribute("aria-pressed", on);
    find("sliding").hidden = !on;
  };
  find("slider").oninput = () => pair.style.setProperty("--at", `${find("slider").value}%`);
  addEventListener("dragover", (event) => { event.preventDefault(); pair.classList.add("dropping"); });
  addEventListener("dragleave", () => pair.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    pair.classList.remove("dropping");
    if (event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) openFile(file);
  });

  find("camera").onclick = async () => {
    const video = find("video");
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      status("This browser gives no access to a camera here", true);
      return;
    }
    await video.play();
    video.hidden = find("shoot").hidden = false;
    find("shoot").onclick = () => {
      open(video, video.videoWidth, video.videoHeight);
      video.srcObject.getTracks().forEach((track) => track.stop());
      video.hidden = find("shoot").hidden = true;
    };
  };

  const place = (event) => {
    const box = input.getBoundingClientRect();
    return [((event.clientX - box.left) * input.width) / box.width, ((event.clientY - box.top) * input.height) / box.height];
  };
  let last = null;
  const line = (event) => {
    const next = place(event);
    context.strokeStyle = find("pen").value;
    context.lineWidth = Number(find("width").value);
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...next);
    context.stroke();
    last = next;
    update();
  };
  input.onpointerdown = (event) => {
    past.push(context.getImageData(0, 0, input.width, input.height));
    if (past.length > 50) past.shift();
    input.setPointerCapture(event.pointerId);
    last = place(event);
    line(event);
  };
  input.onpointermove = (event) => last && line(event);
  input.onpointerup = input.onpointercancel = () => { last = null; };
  document.querySelector("#translation .save").onclick = () => save(output);
  find("width").value = Math.max(1, side / 24);
  find("translation").hidden = false;
  samples();
  clear();
}

// ---- generation

// Mulberry32, a generator of 32 bits: the same numbers in every browser.
function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function noise(seed) {
  const random = uniform(seed);
  const draw = facts.noise === "normal"
    ? () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
    : () => 2 * random() - 1;
  return Array.from({ length: facts.latent_dim }, draw);
}

function generation() {
  const canvas = find("sample"), sliders = find("sliders");
  let walking = false, from = null, to = null, at = 0;

  const moved = () => {
    if (!walking) return noise(Number(find("seed").value) || 0);
    // The variance of the noise is that of a single draw.
    const scale = facts.noise === "normal" ? Math.hypot(at, 1 - at) : 1;
    return from.map((value, place) => ((1 - at) * value + at * to[place]) / scale);
  };
  const vector = () => {
    const truncation = facts.noise === "normal" ? Number(find("truncation").value) : 1;
    const latent = moved().map((value) => value * truncation);
    for (const slider of sliders.querySelectorAll("[data-entry]")) latent[slider.dataset.entry] += Number(slider.value);
    const category = sliders.querySelector("[data-categories]");
    if (category) for (let each = 0; each < facts.categories; each++) latent.push(Number(category.value) === each ? 1 : 0);
    for (const slider of sliders.querySelectorAll("[data-code]")) latent.push(Number(slider.value));
    return Float32Array.from(latent);
  };
  const update = repeated(async () => {
    const start = performance.now(), latents = vector();
    const inputs = { latents: { type: "float32", data: latents, shape: [1, latents.length] } };
    if (facts.classes.length) {
      inputs.labels = { type: "int64", data: BigInt64Array.of(BigInt(find("class").selectedIndex)), shape: [1] };
    }
    const result = await apply(facts.models[0].name, inputs);
    show(canvas, result.output, result.shape);
    status(`${result.shape[3]} × ${result.shape[2]} pixels, ${Math.round(performance.now() - start)} ms`);
  });

  const range = (text, data, least, most) => {
    const label = document.createElement("label"), slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: least, max: most, step: 0.05, value: 0, oninput: update });
    Object.assign(slider.dataset, data);
    label.append(`${text} `, slider);
    sliders.append(label);
  };
  if (facts.categories) {
    const label = document.createElement("label"), select = document.createElement("select");
    for (let each = 0; each < facts.categories; each++) select.add(new Option(each, each));
    select.dataset.categories = "";
    select.onchange = update;
    label.append("Category ", select);
    sliders.append(label);
  }
  for (let code = 0; code < facts.continuous; code++) range(`Code ${code + 1}`, { code }, -1, 1);
  for (let entry = 0; entry < Math.min(6, facts.latent_dim); entry++) range(`Direction ${entry + 1}`, { entry }, -3, 3);
  for (const name of facts.classes) find("class").add(new Option(name, name));
  find("classes").hidden = !facts.classes.length;
  find("truncation").closest("label").hidden = facts.noise !== "normal";
  for (const id of ["seed", "class", "truncation"]) find(id).oninput = update;
  find("random").onclick = () => { find("seed").value = Math.floor(Math.random() * 1e6); update(); };
  const walk = async () => {
    while (walking) {
      at += 0.05;
      if (at >= 1) { from = to; to = noise(Math.floor(Math.random() * 1e6)); at = 0; }
      await update();
      await new Promise(requestAnimationFrame);
    }
  };
  find("walk").onclick = () => {
    if (!walking) { from = moved(); to = noise(Math.floor(Math.random() * 1e6)); at = 0; }
    walking = !walking;
    find("walk").setAttribute("aria-pressed", walking);
    if (walking) walk();
    else update();
  };
  document.querySelector("#generation .save").onclick = () => save(canvas);
  find("generation").hidden = false;
  update();
}

find("about").textContent = facts.about;
load().then(facts.models[0].channels ? translation : generation)
  .catch((error) => status(`The model can't run in this browser: ${error.message}`, true));
