// What the chosen unit stands for.
const BLUE = [0, 114, 178], RED = [213, 94, 0], QUICK = 3; // seconds: what takes longer waits to be asked for

const blank = () => {
  for (const id of ["map", "pixels", "made"]) {
    one(id).classList.remove("there", "mapped");
    every("button", one(id)).forEach((button) => { button.hidden = true; }); // until it is offered
  }
  one("unit-facts").textContent = one("goes").textContent = "…";
};

const showFace = async () => {
  const { unit, image } = at, named = { unit: [unit.kind, unit.block, unit.index] };
  blank();
  const found = await ask("unit", "unit", named);
  if (!found || at.unit !== unit || at.image !== image) return;
  const point = pointOf(unit.key);
  one("unit-facts").textContent = `${point ? `On the ${at.kind}: ${point.dataset.figures}. ` : `Not on this ${at.kind}. `}Value ${found.value} on this image, the mean over all tokens.`;
  one("goes").textContent = goes(found.name, unit.kind);
  const map = one("map");
  copyPicture(map);
  if (found.maps) drawMap(map, found.grid, found.maps[0], found.peaks[0], shades);
  if (!point && found.maps) drawMap(document.querySelector("#image figure"), found.grid, found.maps[0], found.peaks[0], shades);
  showLikes(found.likes);
  offer("pixels", unit, named, drawPixels);
  offer("made", unit, named, drawMade);
};

const copyPicture = (figure) => {
  const box = figure.querySelector(".picture"), original = one("picture");
  const picture = box.querySelector("img");
  picture.src = original.src;
  picture.className = original.className;
  box.style.aspectRatio = original.parentElement.style.aspectRatio;
};

const goes = (name, kind) => {
  if (!name) return "";
  const told = `AUROC ${name.score}; 95 % of shuffled labels stay below ${name.control}, and ${(100 * name.random_units).toFixed(0)} % of random ${kind}s tell a class of theirs as well`;
  return name.name ? `Goes with ${name.name} (${told}).` : `Goes with no class: ${name.best} comes nearest (${told}).`;
};

const showLikes = (likes) => {
  const list = one("likes");
  list.replaceChildren();
  one("likes-name").hidden = !likes;
  one("likes-facts").textContent = !likes ? "" : [
    likes.purity === null ? "" : `${(100 * likes.purity).toFixed(0)} % are of one class; of the other units here ${(100 * likes.random_purity).toFixed(0)} % on average.`,
    likes.read < likes.of ? `Of the ${likes.read} images read so far.` : `Of ${likes.of} images.`,
  ].join(" ");
  likes?.images.forEach(([number, value]) => {
    const button = element("button", null, element("li", null, list), "like");
    const picture = element("img", null, button);
    picture.src = `/picture/${number}`;
    picture.alt = `image ${number}`;
    element("span", String(value), button);
    button.addEventListener("click", () => open(String(number)));
  });
};

// what takes long is done when its button is pressed; what is quick at once
const offer = (id, unit, named, draw) => {
  const { image } = at, figure = one(id), button = figure.querySelector("button"), seconds = at.seconds?.[id] || 0;
  figure.querySelector(".picture").style.aspectRatio = one("picture").parentElement.style.aspectRatio;
  button.textContent = `${id === "made" ? "Make an image" : "Find the pixels"}${seconds > QUICK ? `, about ${Math.round(seconds)} s` : ""}`;
  button.disabled = false;
  button.hidden = false;
  figure.querySelector("figcaption").textContent = id === "made" ? "An image made to excite it" : "Pixels that drive it";
  button.onclick = async () => {
    button.disabled = true;
    button.textContent = "…";
    const found = await ask(id, id, named);
    if (found === undefined || at.unit !== unit || at.image !== image) return;
    button.hidden = Boolean(found);
    button.disabled = false;
    if (found) draw(figure, found);
  };
  if (seconds <= QUICK) button.click();
};

const drawPixels = (figure, found) => {
  const blend = (share) => (share < 0 ? RED : BLUE).map((part) => Math.round(255 + (part - 255) * Math.abs(share)));
  paint(figure.querySelector("canvas"), found.size, bytes(found.pixels), (value) => blend(value / 127));
  figure.classList.add("there");
  figure.querySelector("figcaption").textContent = `Pixels that raise it, blue, and lower it, red: ${found.change} in all, ${found.missing < 1e-4 ? "under 0.01" : (100 * found.missing).toPrecision(2)} % missing`;
};

const drawMade = (figure, found) => {
  const picture = figure.querySelector("img");
  picture.src = found.picture;
  picture.className = one("picture").className;
  picture.alt = "An image made to excite the unit";
  figure.classList.add("there");
  figure.querySelector("figcaption").textContent = `Made to excite it: value ${found.value}${found.best === null ? "" : `; the best real image has ${found.best}`}`;
};
