// The explorer's page: what is chosen is in `at`, what the server says is drawn; nothing is asked of anybody else.
const about = JSON.parse(document.getElementById("data").textContent);
const shades = colours(about.palette);
const one = (id) => document.getElementById(id);
const at = { image: null, model: 0, kind: "path", unit: null, changes: new Map(), way: null };
const uploads = new Map(); // an upload's id: its file, in case the server has let go of it
const WORDS = { off: "off", double: "doubled", mean: "its mean" };

const tell = (problem) => {
  one("problem").hidden = !problem;
  one("problem").textContent = problem || "";
};

// ---- asking the server

const answered = async (response) => {
  const found = await (response.headers.get("Content-Type") === "application/json" ? response.json() : response.blob());
  if (!response.ok) throw Object.assign(new Error(found.error), { gone: response.status === 410 });
  return found;
};

const waiting = {}; // what is being asked, by topic: a new question of a topic calls the one before off

const ask = async (topic, question, body = {}) => {
  waiting[topic]?.abort();
  const mine = waiting[topic] = new AbortController();
  const send = () => fetch(`/api/${question}`, {
    method: "POST", headers: { "Content-Type": "application/json" }, signal: mine.signal,
    body: JSON.stringify({ image: at.image, model: at.model, ...body }),
  }).then(answered);
  try {
    return await send().catch(async (error) => {
      if (!error.gone || !uploads.has(at.image)) throw error;
      await sendFile(uploads.get(at.image));
      return send();
    });
  } catch (error) {
    if (error.name === "AbortError") return undefined; // another question has taken its place
    tell(error instanceof TypeError ? "The explorer's server isn't there any more." : error.message);
    return null;
  }
};

const sendFile = async (file) => {
  const found = await fetch(`/api/upload?name=${encodeURIComponent(file.name)}`, {
    method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file,
  }).then(answered);
  uploads.set(found.id, file);
  return found;
};

// ---- the image and what the model says

const percent = (value) => value >= 0.9995 ? "100 %" : `${(100 * value).toPrecision(value >= 0.1 ? 3 : 2)} %`;

const showClasses = (classes) => {
  one("says").replaceChildren();
  const changed = classes.some((each) => each.random !== null);
  const most = Math.max(...classes.flatMap((each) => [each.now, each.clean, each.random || 0]));
  const end = most > 0.4 ? 1 : Number((1.1 * most).toPrecision(2)), wide = (value) => `${100 * value / end}%`;
  one("legend").hidden = !changed;
  one("end").textContent = end < 1 ? `Bars end at ${percent(end)}` : "";
  classes.forEach((each) => {
    const row = element("li", null, one("says"));
    element("span", each.name, row, "name").title = each.name;
    const track = element("span", null, row, "track");
    if (changed) element("i", null, track, "random").style.width = wide(each.random);
    element("i", null, track, "now").style.width = wide(each.now);
    if (changed) element("i", null, track, "clean").style.left = wide(each.clean);
    element("span", percent(each.now), row, "number");
    if (changed) row.title = `was ${percent(each.clean)}, with random units changed alike ${percent(each.random)}`;
  });
};

const showImage = (found) => {
  const picture = one("picture"), box = picture.parentElement;
  picture.src = `/picture/${found.id}`;
  picture.alt = found.name;
  box.classList.toggle("small", found.small);
  picture.classList.toggle("small", found.small);
  box.style.aspectRatio = `${found.width} / ${found.height}`;
  const caption = one("caption"), said = found.classes[0];
  caption.replaceChildren();
  element("span", found.name, caption, "quiet");
  element("strong", `${said.name}, probability ${percent(said.now)}`, caption);
  if (found.truth) {
    const right = found.truth.label === said.label;
    element("span", `True: ${found.truth.name}, so ${right ? "right" : "wrong"}`, caption, right ? "truth" : "truth wrong");
  }
};

const open = async (id) => {
  at.image = id;
  tell();
  every("#images [data-id]").forEach((button) => {
    const chosen = button.dataset.id === id;
    button.setAttribute("aria-pressed", chosen);
    button.tabIndex = chosen ? 0 : -1; // Tab passes the others by; arrow keys go there
  });
  clearMap();
  const found = await ask("image", "predict");
  if (!found) return;
  showImage(found);
  blank(); // a unit's faces are another image's, until this one's are there
  at.seconds = found.seconds;
  showClasses(found.classes);
  if (at.changes.size) change();
  explain();
};

// ---- the path or circuit

const clearMap = () => document.querySelector("#image figure").classList.remove("mapped");

const pointOf = (key) => document.querySelector(`#way .point[data-key="${key}"]`);

const showMap = (point) => {
  const scene = at.way?.scene, view = scene?.images[0].views[0];
  if (!point || !view?.maps) return clearMap();
  const number = point.dataset.at;
  drawMap(document.querySelector("#image figure"), scene.ways[0].grid, view.maps[number], view.peaks[number], shades);
};

const mark = () => {
  every(".edge", one("feeds")).forEach((edge) => edge.classList.toggle("on", at.unit && [edge.dataset.from, edge.dataset.to].includes(at.unit.key)));
  one("feeds").querySelector("svg")?.classList.toggle("picked", Boolean(one("feeds").querySelector(".edge.on")));
  every("#way .point, #feeds .node").forEach((point) => {
    const chosen = point.dataset.key === at.unit?.key;
    point.classList.toggle("pinned", chosen);
    point.setAttribute("aria-pressed", chosen);
    for (const way of Object.keys(WORDS)) point.classList.toggle(way, at.changes.get(point.dataset.key) === way);
  });
};

const wire = () => {
  const all = every("#way .point");
  all.forEach((point, number) => {
    for (const moment of ["mouseenter", "focus"]) point.addEventListener(moment, () => {
      showMap(point);
      all.forEach((each) => each.classList.toggle("on", each === point));
    });
    point.addEventListener("mouseleave", () => {
      point.classList.remove("on");
      showMap(pointOf(at.unit?.key));
    });
    point.addEventListener("focus", () => all.forEach((each) => each.setAttribute("tabindex", each === point ? 0 : -1)));
    point.addEventListener("click", () => choose(unitOf(point.dataset.key)));
    point.addEventListener("keydown", (event) => {
      const next = move(all, number, event.key), way = { o: "off", d: "double", m: "mean" }[event.key.toLowerCase()];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Enter" || event.key === " ") choose(unitOf(point.dataset.key));
      else if (way) set([point.dataset.key], at.changes.get(point.dataset.key) === way ? "" : way);
      else if (next) next.focus();
      else return;
      event.preventDefault();
    });
  });
};

const explain = async () => {
  const host = one("way"), kind = at.kind;
  for (const id of ["all", "hint", "feeds"]) one(id).hidden = true;
  one("effects").replaceChildren();
  delete one("feeds").querySelector("div").dataset.of;
  at.way = null;
  busy(host, `Finding the ${kind}`, at.seconds?.[kind]);
  const found = await ask("way", "explain", { kind });
  if (found === undefined) return;
  if (!found) {
    host.querySelector(".busy")?.remove();
    return;
  }
  at.way = found;
  host.innerHTML = found.html; // the server's own template, everything in it escaped
  one("all").hidden = one("hint").hidden = !points();
  one("effects").replaceChildren(...every(".effects", host));
  wire();
  mark();
  one("feeds").hidden = !points() || points() > 48;
  if (one("feeds").open) feed();
  if (at.unit) choose(at.unit);
};

const points = () => every("#way .point").length;

const asked = () => `${at.image} ${at.model} ${at.kind}`;

// the graph, once it is asked for
const feed = async () => {
  const host = one("feeds").querySelector("div"), mine = asked();
  if (one("feeds").hidden || host.dataset.of === mine) return;
  busy(host, "Drawing the graph", at.seconds?.graph);
  const found = await ask("graph", "graph", { kind: at.kind });
  if (found === undefined || mine !== asked()) return; // another's is drawn when its path is there
  if (!found) return host.replaceChildren();
  host.dataset.of = mine;
  host.innerHTML = found.html; // as above
  every(".node", host).forEach((node) => node.addEventListener("click", () => choose(unitOf(node.dataset.key))));
  mark();
};

one("feeds").addEventListener("toggle", () => one("feeds").open && feed());

const busy = (host, what, seconds = 0) => {
  host.replaceChildren();
  element("p", `${what}${seconds > 1.5 ? `, about ${Math.round(seconds)} seconds` : ""} …`, host, "busy");
};

// ---- a unit, and what is changed

const unitOf = (key) => {
  const [, block, kind, index] = key.match(/^block-(\d+)-(head|neuron)-(\d+)$/);
  return { key, kind, block: Number(block), index: Number(index), title: `block ${block}, ${kind} ${index}` };
};

const choose = (unit) => {
  at.unit = unit;
  showFace();
  const point = pointOf(unit.key);
  one("unit").hidden = false;
  one("unit-name").textContent = unit.title;
  every("#do input").forEach((radio) => { radio.checked = radio.value === (at.changes.get(unit.key) || ""); });
  mark();
  showMap(point);
};

const set = async (keys, way) => {
  const before = new Map(at.changes);
  keys.forEach((key) => way ? at.changes.set(key, way) : at.changes.delete(key));
  shown();
  if (await change() !== null) return;
  at.changes = before; // it couldn't be done
  shown();
};

const shown = () => {
  if (at.unit) every("#do input").forEach((radio) => { radio.checked = radio.value === (at.changes.get(at.unit.key) || ""); });
  mark();
  listChanges();
};

const listed = () => [...at.changes].map(([key, way]) => { const { kind, block, index } = unitOf(key); return [kind, block, index, way]; });

const listChanges = () => {
  const list = one("changes");
  one("changed").hidden = !at.changes.size;
  list.replaceChildren();
  at.changes.forEach((way, key) => {
    const item = element("li", null, list);
    const name = element("button", `${unitOf(key).title}: ${WORDS[way]}`, item, "link");
    name.addEventListener("click", () => choose(unitOf(key)));
    const back = element("button", "×", item, "back");
    back.setAttribute("aria-label", `${unitOf(key).title} as it was`);
    back.addEventListener("click", () => set([key], ""));
  });
  one("code").hidden = true;
};

const change = async () => {
  const found = await ask("change", "change", { kind: at.kind, changes: listed() });
  if (!found) return found;
  tell();
  showClasses(found.classes);
  at.code = found.code;
  one("verdict").textContent = !at.changes.size ? "" : found.flips ? `Now it says ${found.says.name}.` : `It still says ${found.says.name}.`;
  one("verdict").classList.toggle("flips", found.flips);
  one("float").hidden = !at.changes.size;
  one("float").textContent = `${found.classes[0].name}: ${percent(found.classes[0].now)}, was ${percent(found.classes[0].clean)}. ${one("verdict").textContent}`;
  return found;
};

one("do").addEventListener("change", (event) => set([at.unit.key], event.target.value));
every("#all button").forEach((button) => button.addEventListener("click", () => set(every("#way .point").map((point) => point.dataset.key), button.dataset.do)));
one("reset").addEventListener("click", () => {
  at.changes.clear();
  set([], "");
});
