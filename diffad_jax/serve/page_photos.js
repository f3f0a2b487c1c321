const SENT_AT_ONCE = 4, PICTURES_KEPT = 100, WATCH_EVERY = 2000, MOST_PHOTOS = 2000;
const state = { model: null, models: {}, photos: [], current: null, shown: null, kind: "overlay",
  queue: [], sent: [], sending: 0, stream: null, effect: null, watched: 0, moments: [], failed: null };
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
