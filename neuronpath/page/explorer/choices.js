// What is chosen from: images, an upload, models, the path or the circuit, any unit.
const tile = ({ id, name, truth }, into) => {
  const button = element("button", null, element("li", null, into));
  button.type = "button";
  button.dataset.id = id;
  button.title = truth === null || truth === undefined ? name : `${name}: ${truth}`;
  button.setAttribute("aria-label", button.title);
  button.setAttribute("aria-pressed", id === at.image);
  button.tabIndex = id === at.image ? 0 : -1;
  const picture = element("img", null, button);
  picture.loading = "lazy";
  picture.alt = "";
  picture.src = `/picture/${id}`;
  button.addEventListener("click", () => comparing() ? compare({ image: id, model: at.model }) : open(id));
  return button;
};

const more = async (start) => {
  const found = await fetch(`/api/images?from=${start}`).then(answered);
  one("images").querySelector(".more")?.remove();
  found.images.forEach((each) => tile(each, one("images")));
  const shown = start + found.images.length;
  if (shown < found.of) {
    const item = element("li", null, one("images"), "more");
    const button = element("button", `${found.of - shown} more`, item);
    button.addEventListener("click", () => more(shown));
  }
  return found;
};

const upload = async (file) => {
  if (!file) return;
  tell();
  if (file.size > about.most_bytes) return tell(`${file.name} has ${file.size.toLocaleString("en")} bytes; expected at most ${about.most_bytes.toLocaleString("en")}`);
  try {
    const found = await sendFile(file);
    every("#images button").find((button) => button.dataset.id === found.id)?.parentElement.remove();
    one("images").prepend(tile({ ...found, truth: null }, one("images")).parentElement);
    await open(found.id);
  } catch (error) {
    tell(error instanceof TypeError ? `${file.name} couldn't be sent; the server may have refused its size` : error.message);
  }
};

one("file").addEventListener("change", (event) => {
  upload(event.target.files[0]);
  event.target.value = "";
});
["dragover", "dragleave", "drop"].forEach((moment) => document.addEventListener(moment, (event) => {
  event.preventDefault();
  one("drop").classList.toggle("over", moment === "dragover");
  if (moment === "drop") upload(event.dataTransfer.files[0]);
}));
document.addEventListener("paste", (event) => upload(event.clipboardData.files[0]));

one("images").addEventListener("keydown", (event) => {
  const tiles = every("button", one("images"));
  const next = move(tiles, tiles.indexOf(document.activeElement), event.key);
  if (!next) return;
  next.focus();
  event.preventDefault();
});

const tabs = every(".tabs [role=tab]");
tabs.forEach((tab, number) => {
  tab.addEventListener("click", () => {
    tabs.forEach((each) => {
      each.setAttribute("aria-selected", each === tab);
      each.tabIndex = each === tab ? 0 : -1;
    });
    one("way").setAttribute("aria-labelledby", tab.id);
    at.kind = tab.dataset.kind;
    if (at.image) explain();
  });
  tab.addEventListener("keydown", (event) => {
    const next = move(tabs, number, event.key);
    if (!next) return;
    next.focus();
    next.click();
    event.preventDefault();
  });
});

every("input[name=model]").forEach((radio) => radio.addEventListener("change", () => {
  at.model = Number(radio.value);
  at.changes.clear(); // another model's units are others
  listChanges();
  one("verdict").textContent = "";
  at.unit = null;
  one("unit").hidden = true;
  kinds();
  if (at.image) open(at.image);
}));

// ---- comparing: another image is picked from the strip

const comparing = () => one("compare").getAttribute("aria-pressed") === "true";
const pick = (on) => {
  one("compare").setAttribute("aria-pressed", on);
  one("strip").classList.toggle("picking", on);
  tell(on ? "Choose the image to compare with, above." : null);
};
one("compare").addEventListener("click", () => pick(!comparing()));
one("models-compared")?.addEventListener("click", () => compare({ image: at.image, model: 1 - at.model }));
document.addEventListener("keydown", (event) => event.key === "Escape" && comparing() && pick(false));

const compare = async (other) => {
  pick(false);
  const section = one("compared"), table = section.querySelector("table");
  section.hidden = false;
  busy(table, `Comparing the ${at.kind}s`, at.seconds?.[at.kind]);
  section.scrollIntoView({ block: "nearest" });
  const found = await ask("compare", "compare", { kind: at.kind, other });
  if (found === undefined) return;
  table.replaceChildren();
  if (!found) return section.hidden = true;
  const head = element("tr", null, element("thead", null, table));
  element("th", "", head);
  found.sides.forEach((side) => {
    const cell = element("th", null, head);
    cell.scope = "col";
    const picture = element("img", null, cell);
    picture.src = `/picture/${side.id}`;
    picture.alt = "";
    element("span", about.models.length > 1 ? `${side.name}, ${side.model}` : side.name, cell);
  });
  const body = element("tbody", null, table);
  found.rows.forEach(({ what, cells, differs }) => {
    const row = element("tr", null, body, differs ? "differs" : "same");
    element("th", what, row).scope = "row";
    cells.forEach((cell) => element("td", cell ?? "none", row));
  });
  const { shared } = found;
  section.querySelector(".facts").textContent = shared
    ? `${shared.units} of ${shared.of} units are in both; of random units it would be ${shared.chance}.` : "Two models: their units aren't the same ones, whatever their numbers.";
  one("compared-name").focus({ preventScroll: true });
  section.scrollIntoView({ block: "nearest", behavior: "smooth" });
};
one("differing").addEventListener("change", (event) => one("compared").classList.toggle("all", !event.target.checked));

const any = one("any").elements;
const kinds = () => {
  any.kind.replaceChildren();
  [...new Set(about.models[at.model].places.map((place) => place[1]))].forEach((kind) => element("option", kind, any.kind));
};
one("any").addEventListener("submit", (event) => {
  event.preventDefault();
  const place = about.models[at.model].places.find(([block, kind]) => block === Number(any.block.value) && kind === any.kind.value);
  if (!place) return tell(`There is no block ${any.block.value}; expected 0 to ${about.models[at.model].blocks - 1}.`);
  if (Number(any.index.value) >= place[2]) return tell(`Block ${place[0]} has ${place[2]} ${place[1]}s; expected a number from 0 to ${place[2] - 1}.`);
  tell();
  choose(unitOf(`block-${place[0]}-${place[1]}-${Number(any.index.value)}`));
});

const watch = async () => { // how far the images are read that favourites, means and names are of
  const { read, reading, problems } = await fetch("/api/images?from=0").then(answered);
  one("reading").textContent = [...problems, read < reading ? `Reading the images: ${read} of ${reading}` : ""].join(" ");
  if (read < reading) setTimeout(watch, 2000);
};

kinds();
more(0).then((found) => {
  if (found.images.length) open(found.images[0].id);
  else tell("Choose an image of yours, or drop one here.");
  return watch();
}).catch((error) => tell(error.message));
