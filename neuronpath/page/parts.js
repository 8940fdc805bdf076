"use strict";
// What the scripts of pages share.
const every = (selector, within = document) => [...within.querySelectorAll(selector)];

// text is set as text, never as markup: names are whatever files are called
const element = (tag, text, into, name) => {
  const made = document.createElement(tag);
  if (text !== null) made.textContent = text;
  if (name) made.className = name;
  into.append(made);
  return made;
};

// the scale of maps: a colour [r, g, b] for a share of it from 0 to 1, and a gradient of all
const colours = (palette) => {
  const parts = palette.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const colour = (share) => {
    const at = share * (parts.length - 1), low = Math.floor(at), high = Math.min(low + 1, parts.length - 1);
    return parts[low].map((value, i) => Math.round(value + (parts[high][i] - value) * (at - low)));
  };
  return { colour, gradient: `linear-gradient(to right, ${palette.join(", ")})` };
};

const bytes = (text) => Int8Array.from(atob(text), (c) => c.charCodeAt(0));

// values on a canvas [rows, columns], a pixel each
const paint = (canvas, grid, values, colour) => {
  [canvas.height, canvas.width] = grid;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  values.forEach((value, i) => pixels.data.set([...colour(value), 255], 4 * i));
  context.putImageData(pixels, 0, 0);
};

// a map over the picture of a figure, with its scale
const drawMap = (figure, grid, text, peak, { colour, gradient }) => {
  const values = bytes(text);
  const low = Math.min(0, ...values), high = Math.max(0, ...values), span = high - low || 1;
  paint(figure.querySelector(".picture canvas"), grid, values, (value) => colour((value - low) / span));
  const end = (value) => value ? Number((value / 127 * peak).toPrecision(3)) : "0";
  const scale = figure.querySelector(".scale");
  scale.querySelector(".low").textContent = end(low);
  scale.querySelector(".high").textContent = end(high);
  scale.querySelector("i").style.background = gradient;
  figure.classList.add("mapped");
};

// where an arrow key leads from one of several
const move = (points, from, key) => {
  const steps = { ArrowRight: from + 1, ArrowUp: from + 1, ArrowLeft: from - 1, ArrowDown: from - 1, Home: 0, End: points.length - 1 };
  return points[Math.min(Math.max(steps[key], 0), points.length - 1)];
};
