const SENT_AT_ONCE = 4, PICTURES_KEPT = 100, WATCH_EVERY = 2000, MOST_PHOTOS = 2000;
const state = { model: null, models: {}, photos: [], current: null, shown: null, kind: "overlay", queue: [], sent: [],
  sending: 0, stream: null, effect: null, watched: 0, moments: [],
  failed: null };
const TITLES = { overlay: "Overlay", heat_map: "Heat map", photo: "Original",
  reconstruction: "Reconstruction" };

// ---- talking to the server: the token travels in a header, there are no cookies ----

function token() {
  if (location.hash.startsWith("#token=")) {
    sessionStorage.setItem("token", decodeURIComponent(location.hash.slice(7)));
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
}

async function ask(path, options = {}) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  for (;;) {
    const response = await fetch(path, { ...options, headers });
    if (response.status === 503 && response.headers.has("Retry-After")) {
      await new Promise((done) => setTimeout(done, 1000 * response.headers.get("Retry-After")));
      continue;
    }
    const content = await response.json().catch(() => null); // a proxy has pages of its own
    byId("enter").hidden = response.status !== 401;
    if (content && (response.ok || content.photos)) return content;
    throw new Error(content?.error ||
      `The server, or a proxy before it, answers ${response.status}: see its console.`);
  }
}

function say(text, failed = null) {
  state.failed = failed;
  byId("said").textContent = text;
  byId("said").hidden = !text;
}

const attempt = (act) => async (...given) => {
  try {
    await act(...given);
    if (act !== lookAtFolder || state.failed === act) say(""); // else it would hide what others said
  } catch (error) {
    say(`${error.message || error}`, act);
  }
};

// ---- photos: sent a few at a time, in their order ----

function add(files) {
  const photos = [...files].filter((file) => !file.name.startsWith("."));
  photos.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  for (const blob of photos) state.queue.push({ blob, name: blob.webkitRelativePath || blob.name });
  send();
}

async function send() {
  byId("waiting").textContent = state.queue.length ? `${state.queue.length} wait.` : "";
  if (!state.model || !state.queue.length || state.sending >= SENT_AT_ONCE) return;
  state.sending += 1;
  const photo = state.queue.shift();
  state.sent.push(photo);
  send();
  try {
    const wanted = state.model.pictures.join(",");
    const path = `/v1/predict?pictures=${wanted}&name=${encodeURIComponent(photo.name)}` +
      category(byId("which").value);
    Object.assign(photo, (await ask(path, { method: "POST", body: photo.blob })).photos[0]);
    await know(photo.category);
    keepUp(photo);
  } catch (error) {
    photo.error = `${error.message || error}`;
  }
  state.sending -= 1;
  photo.answered = true;
  while (state.sent[0]?.answered) show(state.sent.shift());
  send();
}

function show(photo) {
  state.photos.push(photo);
  if (state.photos.length > MOST_PHOTOS) state.photos.shift().card.remove();
  const old = state.photos.at(-1 - PICTURES_KEPT);
  if (old && old !== state.current) delete old.pictures;
  if (!photo.error) state.moments.push(Date.now());
  photo.card = el("li", {}, el("button", { type: "button" },
    el("img", { alt: "" }),
    el("span", { class: "caption", title: photo.name }, photo.name || "photo"),
    el("span", { class: "verdict" })));
  photo.card.firstChild.addEventListener("click", attempt(() => select(photo)));
  byId("strip").append(photo.card);
  if (photo.pictures) photo.card.querySelector("img").src = source(photo, "photo");
  byId("empty").hidden = true;
  mark(photo);
  count();
  if (!state.current) attempt(select)(photo);
}

const source = (photo, kind) => `data:image/png;base64,${photo.pictures[kind]}`;
const category = (name) => name ? `&category=${encodeURIComponent(name)}` : "";
const anomalous = (photo) => photo.score > threshold(photo.category);
const threshold = (name = state.model.category) =>
  (name === state.model.category ? state.hand : null) ?? state.models[name].threshold ?? Infinity;

function verdictOf(photo) {
  if (photo.error) return "unreadable";
  if (photo.label) return photo.label === "good" ? "good, you say" : "defect, you say";
  if (state.models[photo.category].threshold === null) return "no threshold";
  return anomalous(photo) ? "anomalous" : "good";
}

function mark(photo) {
  const verdict = photo.card.querySelector(".verdict");
  verdict.textContent = verdictOf(photo);
  const bad = photo.label ? photo.label === "defect" : !photo.error && anomalous(photo);
  photo.card.classList.toggle("anomalous", bad);
  photo.card.firstChild.setAttribute("aria-current", photo === state.current);
  photo.card.firstChild.tabIndex = photo === state.current ? 0 : -1; // arrows lead to the others
  if (photo !== state.current) return;
  byId("verdict").textContent = verdict.textContent;
  byId("verdict").classList.toggle("anomalous", bad);
}

function count() {
  const judged = state.photos.filter((photo) => !photo.error);
  byId("num-anomalous").textContent = judged.filter(anomalous).length;
  byId("num-good").textContent = judged.filter((photo) => photo.score <= threshold(photo.category) &&
    threshold(photo.category) < Infinity).length; // without a threshold there is no verdict
  byId("num-corrected").textContent = judged.filter((photo) => photo.label).length;
  state.moments = state.moments.filter((moment) => moment > Date.now() - 60000);
  byId("rate").textContent = state.moments.length;
  const ofModel = judged.filter((photo) => photo.category === state.model.category);
  const held = state.model.held_out_scores;
  const heldOut = held.length // an exported folder does not know their scores
    ? `, and ${held.filter((score) => score > threshold()).length} of ${held.length} good photos ` +
      "that were held out of training" : "";
  byId("what-if").textContent =
    `At ${short(threshold())}: ${ofModel.filter(anomalous).length} of ${ofModel.length} photos ` +
    `here are anomalous${heldOut}.`;
  const scores = ofModel.map((photo) => photo.score).concat(held);
  if (scores.length) {
    byId("slider").min = Math.min(...scores, state.model.threshold);
    byId("slider").max = Math.max(...scores, state.model.threshold);
    byId("slider").value = threshold();
  }
}

async function askAgain(photo, pictures) {
  const wanted = `pictures=${pictures.join(",")}`, name = encodeURIComponent(photo.name || "");
  const path = `/v1/predict?again=yes&name=${name}&${wanted}${category(photo.category)}`;
  Object.assign(photo, photo.blob
    ? (await ask(path, { method: "POST", body: photo.blob })).photos[0]
    : await ask(`/v1/watched/${photo.id}?${wanted}`));
}

async function judgeAgain(name, scores) { // a recalibration moves regions, and perhaps scores
  const judged = state.photos.filter((photo) => photo.category === name);
  for (const photo of judged) delete photo.pictures;
  if (judged.includes(state.current)) await select(state.current);
  for (const photo of scores ? judged : []) {
    await askAgain(photo, []);
    mark(photo);
    count();
  }
}

async function select(photo) {
  const before = state.current;
  state.current = photo;
  state.shown = null; // what is still on show is another one, and not to be corrected
  if (before) mark(before);
  if (photo.category && photo.category !== state.model.category) await turnTo(photo.category);
  if (!photo.pictures && !photo.error) {
    await askAgain(photo, state.model.pictures);
    photo.card.querySelector("img").src = source(photo, "photo");
  }
  if (photo !== state.current) return; // another was selected while the server answered
  state.shown = photo;
  byId("current").hidden = false;
  byId("name").textContent = photo.name || "photo";
  byId("score").textContent = photo.error ? photo.error
    : `score ${short(photo.score)}, ${photo.width} × ${photo.height} pixels`;
  const regions = photo.regions || [];
  byId("regions").textContent = regions.length
    ? `${photo.num_regions} region${photo.num_regions > 1 ? "s" : ""} above the pixel threshold. ` +
      "The highest: " + regions.slice(0, 3)
      .map((r) => `${r.area} pixels at ${r.peak_at.join(", ")}, peak ${short(r.peak)}`).join("; ")
    : "";
  draw();
  mark(photo);
  const strip = byId("strip"); // it scrolls by itself: the page stays at the picture
  strip.scrollTop = photo.card.offsetTop - (strip.clientHeight - photo.card.clientHeight) / 2;
}

function draw() {
  const photo = state.current;
  if (!photo) return;
  for (const button of byId("kinds").children)
    button.setAttribute("aria-pressed", button.dataset.kind === state.kind);
  byId("picture").hidden = !photo.pictures;
  if (photo.pictures) byId("picture").src = source(photo, state.kind);
  byId("picture").alt = `${TITLES[state.kind]} of ${photo.name || "the photo"}`;
  byId("none").hidden = !photo.label;
  for (const id of ["good", "defect"]) {
    byId(id).disabled = Boolean(photo.error);
    byId(id).setAttribute("aria-pressed", photo.label === id);
  }
}

function turn(by) {
  const place = state.photos.indexOf(state.current) + by;
  if (state.photos[place]) attempt(select)(state.photos[place]);
}

// ---- corrections and what follows from them ----

let corrected = Promise.resolve(); // the last correction: the next one waits for it

function correct(label) {
  const photo = state.current;
  if (!photo || photo.error || !state.model.corrections) return null;
  if (photo !== state.shown) throw new Error("The photo is not on show yet: correct it when it is.");
  const kept = corrected.then(() => keep(photo, label));
  corrected = kept.catch(() => null);
  return kept;
}

async function keep(photo, label) {
  const who = encodeURIComponent(byId("who").value);
  const name = encodeURIComponent(photo.name || "");
  const path =
    `/v1/corrections?label=${label}&who=${who}&name=${name}${category(photo.category)}`;
  const kept = photo.blob ? await ask(path, { method: "POST", body: photo.blob })
    : await ask(`${path}&watched=${photo.id}`, { method: "POST" });
  photo.label = label === "none" ? null : label;
  mark(photo);
  draw();
  count();
  tell(kept, photo.category);
}

function tell(kept, name) {
  if (name !== state.model.category) return; // another category was turned to meanwhile
  const known = kept.known ? ` (${kept.known} known from training, which choose no threshold)` : "";
  byId("kept").textContent = `Accepted as good: ${kept.good}${known}. Marked as defects: ` +
    `${kept.defect}. The photos are kept in the work directory.`;
  byId("history").replaceChildren(...kept.calibrations.map((c) => el("li", {},
    `${new Date(c.when).toLocaleString()}, ${c.who || "nobody named"}: threshold ${short(c.threshold)}, with ` +
    `${c.num_accepted} accepted photos${c.counts ? "" : "; of other weights, does not count"}`)));
  byId("undo").disabled = !kept.calibrations.length;
  byId("take").hidden = byId("effect").hidden = byId("refitted").hidden = true;
}

async function showEffect() {
  const name = state.model.category;
  const effect = await ask(`/v1/recalibration?${category(name)}`);
  if (name !== state.model.category) return;
  state.effect = effect;
  const { threshold: moved } = state.effect;
  const rows = [["threshold", short(moved.before), short(moved.after), ""]];
  const names = { held_out_called_anomalous: "held-out good photos called anomalous",
    accepted_called_anomalous: "accepted good photos called anomalous",
    defects_called_anomalous: "marked defects found" };
  for (const [key, title] of Object.entries(names)) {
    const { before, after, of } = state.effect[key];
    rows.push([title, ...(of ? [before, after, of] : [GAP, GAP, "none"])]);
  }
  byId("effect").tBodies[0].replaceChildren(...rows.map(([title, ...cells]) =>
    el("tr", {}, el("th", { scope: "row" }, title), ...cells.map((c) => el("td", {}, `${c}`)))));
  byId("refitted").hidden = !state.effect.refitted.length;
  byId("refitted").textContent = `Fitted anew with the accepted photos: ${state.effect.refitted}. ` +
    "So scores change as well.";
  byId("effect").hidden = byId("take").hidden = false;
}

async function take() {
  const who = encodeURIComponent(byId("who").value), name = state.model.category;
  const to = state.effect.threshold.after;
  const path = `/v1/recalibration?threshold=${to}&who=${who}${category(name)}`;
  tell(await ask(path, { method: "POST" }), name);
  await meet(name);
}

async function undo() {
  const who = encodeURIComponent(byId("who").value), name = state.model.category;
  const path = `/v1/recalibration/undo?who=${who}${category(name)}`;
  tell(await ask(path, { method: "POST" }), name);
  await meet(name);
}

// ---- the camera ----

async function openCamera() {
  const wanted = { facingMode: "environment", width: { ideal: 1920 } };
  if (!navigator.mediaDevices) throw new Error("The browser gives the camera to https pages alone.");
  const stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
  closeCamera(); // that of an earlier click, which nothing could stop any more
  state.stream = stream;
  byId("video").srcObject = state.stream;
  byId("shooting").hidden = false;
  byId("shoot").focus(); // so that Space takes the photo
}

function closeCamera() {
  for (const track of state.stream?.getTracks() || []) track.stop();
  state.stream = null;
  byId("shooting").hidden = true;
}

async function shoot() {
  const video = byId("video"), canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  add([new File([blob], `camera ${new Date().toLocaleTimeString()}.png`)]);
  const before = state.current;
  state.current = null; // the new photo is shown when it comes
  if (before) mark(before);
}

// ---- the watched folder ----

async function lookAtFolder() {
  const { photos } = await ask(`/v1/watched?after=${state.watched}`);
  for (const answer of photos) {
    await know(answer.category);
    if (answer.id <= state.watched) continue; // a later look was answered first
    state.watched = answer.id;
    show(answer);
  }
  photos.slice(-1).forEach(keepUp);
}

// ---- dropping, pasting, keys ----

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((done, fail) => entry.file(done, fail))];
  const reader = entry.createReader(), found = [];
  for (;;) { // a folder comes in parts
    const part = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!part.length) return found;
    for (const child of part) found.push(...await filesOf(child));
  }
}

async function dropped(event) {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry());
  for (const entry of entries.filter(Boolean)) add(await filesOf(entry));
}

const KEYS = { g: () => correct("good"), d: () => correct("defect"), b: () => correct("none"),
  ArrowRight: () => turn(1), ArrowLeft: () => turn(-1), n: () => turn(1), p: () => turn(-1) };

function pressed(event) {
  const typing = event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey;
  if (event.key === " " && state.stream && !typing && !event.target.matches("button")) {
    event.preventDefault();
    attempt(shoot)();
  } else if (!typing && KEYS[event.key]) {
    event.preventDefault();
    attempt(KEYS[event.key])();
  } else if (!typing && byId("kinds").children[event.key - 1]) {
    byId("kinds").children[event.key - 1].click();
  }
}

async function know(name) { // the model of a photo's category
  if (name && !state.models[name]) state.models[name] = await ask(`/v1/model?${category(name)}`);
}

function keepUp(photo) { // someone else may have recalibrated
  const model = state.models[photo.category];
  if (model && photo.threshold !== model.threshold)
    meet(photo.category).catch((error) => say(`${error.message || error}`));
}

async function turnTo(name) { // shows a category's threshold and corrections
  await know(name);
  state.model = state.models[name];
  showModel();
  if (state.model.corrections) tell(await ask(`/v1/corrections?${category(name)}`), name);
}

async function meet(name) { // the model of a category has changed
  const before = state.models[name], model = await ask(`/v1/model?${category(name)}`);
  state.models[name] = model;
  if (state.model.category === name) {
    state.model = model;
    showModel();
  }
  await judgeAgain(name, before.weights !== model.weights);
}

function showModel() {
  const model = state.model;
  state.hand = null;
  byId("category").textContent = document.title = `${model.category}: inspection`;
  byId("subtitle").textContent = model.threshold === null
    ? `${model.method}. Too few photos were held out of training for a threshold.`
    : `${model.method}. A photo that scores above ${short(model.threshold)} is anomalous: ` +
      `${model.num_held_out_normal} good photos held out of training` +
      `${model.num_accepted ? ` and ${model.num_accepted} accepted by inspectors` : ""} chose that.`;
  byId("deciding").hidden = model.threshold === null;
  byId("learning").hidden = model.corrections && model.threshold === null;
  byId("moves").hidden = byId("good").hidden = byId("defect").hidden = !model.corrections;
  if (!model.corrections) byId("kept").textContent = `${model.no_corrections}.`;
  const kinds = Object.keys(TITLES).filter((kind) => model.pictures.includes(kind));
  byId("kinds").replaceChildren(...kinds.map((kind, i) => {
    const button = el("button", { type: "button", "data-kind": kind }, TITLES[kind],
      el("kbd", {}, `${i + 1}`));
    button.addEventListener("click", () => { state.kind = kind; draw(); });
    return button;
  }));
  state.photos.forEach(mark);
  count();
  draw();
}

async function begin() {
  const { categories, told_by_photo: told } = await ask("/v1/categories");
  byId("choosing").hidden = categories.length === 1;
  const one = (name) => el("option", { value: name }, name);
  byId("which").replaceChildren(...categories.map(one));
  if (told && categories.length > 1)
    byId("which").prepend(el("option", { value: "" }, "what each looks like"));
  byId("which").selectedIndex = 0;
  await turnTo(categories[0]);
  if (state.model.watching && !state.timer)
    state.timer = setInterval(attempt(lookAtFolder), WATCH_EVERY);
  send(); // what was dropped meanwhile
}

const on = (id, act) => byId(id).addEventListener("click", attempt(act));
on("choose", () => byId("files").click());
on("choose-folder", () => byId("folder").click());
on("camera", openCamera);
on("stop-camera", closeCamera);
on("shoot", shoot);
on("good", () => correct("good"));
on("defect", () => correct("defect"));
on("none", () => correct("none"));
on("previous", () => turn(-1));
on("next", () => turn(1));
on("show-effect", showEffect);
on("take", take);
on("undo", undo);
on("reset", () => { state.hand = null; state.photos.forEach(mark); count(); });
byId("which").addEventListener("change", attempt(async () => {
  if (byId("which").value) await turnTo(byId("which").value);
}));
byId("slider").addEventListener("input", () => {
  state.hand = Number(byId("slider").value);
  state.photos.forEach(mark);
  count();
});
for (const id of ["files", "folder"])
  byId(id).addEventListener("change", () => { add(byId(id).files); byId(id).value = ""; });
byId("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  attempt(begin)();
});
byId("who").value = localStorage.getItem("who") || "";
byId("who").addEventListener("change", () => localStorage.setItem("who", byId("who").value));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", attempt(dropped));
addEventListener("paste", (event) => add(event.clipboardData.files));
addEventListener("keydown", pressed);
setInterval(() => state.model && count(), 5000);
attempt(begin)();
