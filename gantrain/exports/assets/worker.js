// Runs the model outside of the page's own thread, so that the page stays responsive. The runtime, ort.wasm.min.js, stands
// before this code. Messages: {setup: {wasm, module, models}}, then {id, name, inputs}; answers: {ready}, {id, output, shape}.
let sessions = {};

async function setUp({ wasm, module, models }) {
  ort.env.wasm.numThreads = 1; // More need headers that only a server can send.
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([module], { type: "text/javascript" })) };
  for (const [name, model] of Object.entries(models)) {
    sessions[name] = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  }
  postMessage({ ready: true });
}

async function run({ id, name, inputs }) {
  const feeds = {};
  for (const [key, { type, data, shape }] of Object.entries(inputs)) feeds[key] = new ort.Tensor(type, data, shape);
  const { output } = await sessions[name].run(feeds);
  postMessage({ id, output: output.data, shape: output.dims });
}

onmessage = async ({ data }) => {
  try {
    await (data.setup ? setUp(data.setup) : run(data));
  } catch (error) {
    postMessage({ id: data.id, failed: String(error.message || error) });
  }
};
