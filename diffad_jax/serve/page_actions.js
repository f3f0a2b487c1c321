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
