// The script of the page: sends images to POST /predict and shows the answer. Text from the service
// is inserted as text only, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const state = { key: "", ask: null, turn: 0 };

// ---------- requests ----------

async function ask(body, contentType) {
  const headers = contentType ? { "Content-Type": contentType } : {};
  if (state.key) headers.Authorization = `Bearer ${state.key}`;
  state.ask = () => ask(body, contentType);
  const turn = ++state.turn; // the answer is not shown if a later request was sent meanwhile
  setBusy(true);
  try {
    const response = await fetch("predict?explain=heatmap,image", { method: "POST", headers, body });
    const answer = await response.json();
    if (turn !== state.turn) return;
    if (!response.ok) throw answer;
    await showAnswer(answer);
  } catch (problem) {
    if (turn === state.turn) showProblem(problem);
  } finally {
    if (turn === state.turn) setBusy(false);
  }
}

function askFile(file) {
  const form = new FormData();
  form.append("file", file, "slice");
  clear(); // no answer may be shown beside a slice to which it does not belong
  showPreview(file);
  ask(form, null);
}

function setBusy(busy) {
  $("busy").hidden = !busy;
  $("answer").setAttribute("aria-busy", String(busy));
}

// ---------- the picture ----------

function loadImage(source) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("not a picture that a browser can show"));
    image.src = source;
  });
}

function drawSlice(image) {
  for (const id of ["slice", "heat"]) {
    $(id).width = image.naturalWidth;
    $(id).height = image.naturalHeight;
  }
  $("slice").getContext("2d").drawImage(image, 0, 0);
  $("layers").hidden = false;
  $("drop").hidden = true;
  $("region").hidden = true;
}

async function showPreview(file) {
  const source = URL.createObjectURL(file);
  try {
    drawSlice(await loadImage(source));
  } catch {
    // A browser cannot show a DICOM file. The service sends its picture with the answer.
  } finally {
    URL.revokeObjectURL(source);
  }
}

// A ramp from transparent through violet and orange to pale yellow, as heat maps are usually read.
const STOPS = [[40, 11, 84], [101, 21, 110], [187, 55, 84], [249, 142, 9], [252, 255, 164]];

function heatColour(value) {
  const position = (value / 255) * (STOPS.length - 1);
  const low = Math.min(Math.floor(position), STOPS.length - 2);
  const share = position - low;
  return STOPS[low].map((from, i) => Math.round(from + share * (STOPS[low + 1][i] - from)));
}

function drawHeat(image) {
  const context = $("heat").getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, $("heat").width, $("heat").height);
  const table = Array.from({ length: 256 }, (_, value) => heatColour(value));
  for (let i = 0; i < pixels.data.length; i += 4) {
    const value = pixels.data[i];
    [pixels.data[i], pixels.data[i + 1], pixels.data[i + 2]] = table[value];
    pixels.data[i + 3] = Math.min(255, value * 1.6);
  }
  context.putImageData(pixels, 0, 0);
}

function placeRegion(region) {
  const box = $("region");
  box.dataset.known = String(Boolean(region));
  if (region) {
    const [x0, y0, x1, y1] = region;
    const { width, height } = $("slice");
    box.style.left = `${(100 * x0) / width}%`;
    box.style.top = `${(100 * y0) / height}%`;
    box.style.width = `${(100 * (x1 - x0)) / width}%`;
    box.style.height = `${(100 * (y1 - y0)) / height}%`;
  }
  updateOverlay();
}

function updateOverlay() {
  const share = $("opacity").valueAsNumber;
  $("heat").style.opacity = String(share / 100);
  $("opacity-value").textContent = `${share} %`;
  $("region").hidden = $("region").dataset.known !== "true" || !$("show-region").checked;
}

// ---------- the answer ----------

// A slice without a finding does not prove a healthy neck, so it is never called "normal" here.
const WORDS = { fracture: "Fracture", normal: "No fracture seen on this slice", uncertain: "Uncertain" };
const DOMAIN_NAMES = {
  synthetic: "synthetic images",
  painted: "synthetic fractures in real scans",
  real: "real images",
  unknown: "training images not recorded",
};
const DOMAINS = {
  synthetic: "Demo model, trained on synthetic images. Its answers say nothing about a patient.",
  painted: "This model was trained on synthetic fractures painted into real scans.",
  unknown: "The training images of this model are not recorded.",
};

const format = (number) => number.toFixed(number >= 0.01 && number <= 0.99 ? 2 : 3);

function sentenceOf(answer) {
  if (answer.probability === null) return "The model gives no probability for this image.";
  const probability = format(answer.probability);
  const threshold = format(answer.threshold);
  const side = answer.probability >= answer.threshold ? "at or above" : "below";
  const reading = `The probability of a fracture, ${probability}, is ${side} the threshold of ${threshold}`;
  if (answer.prediction !== "uncertain") return `${reading}.`;
  return `${reading}, but the model does not commit to an answer.`;
}

async function showAnswer(answer) {
  if (answer.image) drawSlice(await loadImage(`data:image/png;base64,${answer.image}`));
  if (answer.heatmap) drawHeat(await loadImage(`data:image/png;base64,${answer.heatmap}`));
  placeRegion(answer.region);
  $("result").className = `result ${answer.prediction}`;
  $("domain").textContent = DOMAINS[answer.model.domain] ?? "";
  $("domain").hidden = !(answer.model.domain in DOMAINS);
  $("word").textContent = WORDS[answer.prediction];
  $("sentence").textContent = sentenceOf(answer);
  showGauge(answer);
  $("warnings").replaceChildren(...answer.warnings.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
  $("probability").textContent = answer.probability === null ? "none" : format(answer.probability);
  $("threshold").textContent = format(answer.threshold);
  $("distribution").textContent = answer.in_distribution ? "yes" : "no";
  $("crop").textContent = answer.region ? `${answer.region.slice(0, 2)} – ${answer.region.slice(2)}` : "none";
  $("model").textContent = `${answer.model.architecture} · ${answer.model.version} · ${DOMAIN_NAMES[answer.model.domain]}`;
  $("slice").setAttribute("aria-label", `The slice. Answer: ${WORDS[answer.prediction]}.`);
  show("result");
  $("controls").hidden = false;
}

function showGauge(answer) {
  $("gauge").hidden = answer.probability === null;
  $("fill").style.width = `${100 * (answer.probability ?? 0)}%`;
  $("tick").style.left = `${100 * answer.threshold}%`;
  $("tick-label").style.left = `${Math.min(76, Math.max(24, 100 * answer.threshold))}%`;
  $("tick-label").textContent = `threshold ${format(answer.threshold)}`;
}

function showProblem(problem) {
  const known = typeof problem.status === "number";
  $("problem-title").textContent = known ? problem.title : "The service did not answer";
  $("problem-detail").textContent = known ? problem.detail.replaceAll("`", "") : "The service may be starting or stopping. Try again.";
  $("key-form").hidden = problem.status !== 401;
  $("region").hidden = true;
  $("heat").getContext("2d").clearRect(0, 0, $("heat").width, $("heat").height);
  $("controls").hidden = $("layers").hidden;
  show("problem");
}

function show(which) {
  for (const id of ["empty", "problem", "result"]) $(id).hidden = id !== which;
  if (matchMedia("(max-width: 900px)").matches) $("answer").scrollIntoView({ block: "nearest" });
}

function clear() {
  $("layers").hidden = true;
  $("controls").hidden = true;
  $("drop").hidden = false;
  for (const id of ["empty", "problem", "result"]) $(id).hidden = true;
}

function startOver() {
  clear();
  $("file").value = "";
  show("empty");
  $("file").focus();
}

// ---------- actions of the user ----------

$("file").addEventListener("change", () => $("file").files[0] && askFile($("file").files[0]));
$("another").addEventListener("click", startOver);
$("opacity").addEventListener("input", updateOverlay);
$("show-region").addEventListener("change", updateOverlay);
$("url-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const url = $("url").value.trim();
  if (!url) return $("url").focus();
  clear();
  ask(JSON.stringify({ url }), "application/json");
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.key = $("key").value;
  if (state.ask) state.ask();
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("stage").classList.add("dragging");
  });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    if (name === "drop" || !event.relatedTarget) $("stage").classList.remove("dragging");
  });
}
document.addEventListener("drop", (event) => event.dataTransfer.files[0] && askFile(event.dataTransfer.files[0]));
