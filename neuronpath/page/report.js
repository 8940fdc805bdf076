"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);

  // a colour of the style as [r, g, b]
  const colour = (name) => {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  };

  // text is set as text, never as markup: names are whatever files are called
  const element = (tag, text, into, name) => {
    const made = document.createElement(tag);
    if (text !== null) made.textContent = text;
    if (name) made.className = name;
    into.append(made);
    return made;
  };

  const draw = (picture, way, image, at) => {
    const [rows, columns] = way.grid;
    const values = Int8Array.from(atob(way.maps[image][at]), (c) => c.charCodeAt(0));
    const canvas = picture.querySelector("canvas");
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(columns, rows);
    const above = colour("--raises"), below = colour("--lowers");
    values.forEach((value, i) => pixels.data.set([...(value < 0 ? below : above), 2 * Math.abs(value) * 0.85], 4 * i));
    context.putImageData(pixels, 0, 0);
    picture.classList.add("mapped");
  };

  // the picture of an image once more, in a link to it
  const copy = (image, link, alt) => {
    const original = document.getElementById(`picture-${image}`);
    const made = element("img", null, link, original.parentElement.classList.contains("small") ? "small" : "");
    made.src = original.src;
    made.alt = alt;
    return original.alt;
  };

  const like = (list, [image, value]) => {
    const link = element("a", null, element("li", null, list));
    link.href = `#image-${image}`;
    link.title = copy(image, link, "");
    element("span", link.title, link);
    element("span", String(value), link);
  };

  const describe = (section, point, way, image) => {
    const { at, key, unit, attribution, activation } = point.dataset;
    const detail = section.querySelector(".detail");
    detail.replaceChildren();
    const facts = element("p", null, detail);
    element("strong", unit, facts);
    facts.append(`: attribution ${attribution}, activation ${activation}, peak on the patches ${way.peaks[image][at]}. Most active on:`);
    const list = element("ul", null, detail, "likes");
    way.likes[key].forEach((one) => like(list, one));
  };

  const show = (section, point) => {
    const way = data[section.dataset.way], image = Number(section.dataset.image);
    section.querySelectorAll(".point").forEach((each) => {
      each.classList.toggle("on", each === point);
      each.setAttribute("tabindex", each === point ? 0 : -1);
    });
    draw(section.closest("article").querySelector(".picture"), way, image, point.dataset.at);
    describe(section, point, way, image);
  };

  const clear = (article) => article.querySelector(".picture")?.classList.remove("mapped");

  const move = (points, from, key) => {
    const steps = { ArrowRight: from + 1, ArrowUp: from + 1, ArrowLeft: from - 1, ArrowDown: from - 1, Home: 0, End: points.length - 1 };
    return points[Math.min(Math.max(steps[key], 0), points.length - 1)];
  };

  document.querySelectorAll("section[data-image]").forEach((section) => {
    const points = [...section.querySelectorAll(".point")], article = section.closest("article");
    points.forEach((point, at) => {
      for (const moment of ["mouseenter", "focus", "click"]) point.addEventListener(moment, () => show(section, point));
      point.addEventListener("keydown", (event) => {
        const next = move(points, at, event.key);
        if (event.key === "Escape") clear(article);
        if (event.key === "Enter" || event.key === " ") show(section, point);
        if (next) next.focus();
        if (next || event.key === " ") event.preventDefault();
      });
      point.addEventListener("blur", () => clear(article));
    });
    section.querySelector(".path").addEventListener("mouseleave", () => {
      if (!points.includes(document.activeElement)) clear(article);
    });
    const largest = points.reduce((a, b) => Math.abs(b.dataset.attribution) > Math.abs(a.dataset.attribution) ? b : a);
    describe(section, largest, data[section.dataset.way], Number(section.dataset.image));
  });

  document.querySelectorAll("nav a").forEach((link, image) => {
    const name = link.textContent;
    link.replaceChildren();
    copy(image, link, name);
  });

  // without this script all methods are shown, one below the other
  const choose = (chosen) => {
    document.querySelectorAll("section[data-way]").forEach((section) => { section.hidden = section.dataset.way !== chosen; });
    document.querySelectorAll("article").forEach(clear);
  };
  const radios = document.querySelectorAll("input[name=way]");
  if (radios.length) {
    document.getElementById("switch").hidden = false;
    radios.forEach((radio) => radio.addEventListener("change", () => choose(radio.value)));
    choose([...radios].find((radio) => radio.checked).value);
  }
})();
