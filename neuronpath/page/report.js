(() => {
  const { ways, palette, units, faces } = JSON.parse(document.getElementById("data").textContent);
  const scale = colours(palette);

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
    const { at, key, unit, figures } = point.dataset, told = `${key} ${point === section.pinned}`;
    if (section.told === told) return; // links in it may be about to be followed
    section.told = told;
    const detail = section.querySelector(".detail"), likes = way.likes[key] || [];
    detail.replaceChildren();
    const facts = element("p", null, detail);
    const name = element(units ? "a" : "strong", unit, facts);
    if (units) name.href = `${units}${key}.html`;
    facts.append(`: ${figures}${way.peaks[image] ? `, peak on the patches ${way.peaks[image][at]}` : ""}. `);
    if (point === section.pinned) element("em", "Pinned: click it again, or press Escape, to let it go. ", facts);
    const face = faces[key];
    if (face?.name) facts.append(`${face.name} `);
    if (face?.made) {
      const made = element("img", null, detail, "made");
      made.src = face.made;
      made.alt = made.title = "An image made to excite it";
    }
    if (!likes.length) return;
    facts.append("Most active on:");
    const list = element("ul", null, detail, "likes");
    likes.slice(0, units ? 4 : likes.length).forEach((one) => like(list, one)); // a unit's own page has all
  };

  const mark = (section, key) => {
    every(".point, .node", section).forEach((each) => each.classList.toggle("on", each.dataset.key === key));
    const graph = section.querySelector("svg.graph");
    if (!graph) return;
    graph.classList.toggle("picked", Boolean(key));
    every(".edge", graph).forEach((edge) => edge.classList.toggle("on", key === edge.dataset.from || key === edge.dataset.to));
  };

  const show = (section, point) => {
    const way = ways[section.dataset.way], image = Number(section.dataset.image);
    mark(section, point.dataset.key);
    every(".point", section).forEach((each) => each.setAttribute("tabindex", each === point ? 0 : -1));
    const at = point.dataset.at;
    if (way.grid && way.maps[image]) {
      drawMap(section.closest("article").querySelector("figure"), way.grid, way.maps[image][at], way.peaks[image][at], scale);
    }
    describe(section, point, way, image);
  };

  const clear = (section) => {
    mark(section, null);
    section.closest("article").querySelector("figure")?.classList.remove("mapped");
  };

  const rest = (section) => section.pinned ? show(section, section.pinned) : clear(section);

  const pin = (section, point) => {
    const before = section.pinned;
    section.pinned?.setAttribute("aria-pressed", "false");
    section.pinned?.classList.remove("pinned");
    section.pinned = point && point !== section.pinned ? point : null;
    section.pinned?.setAttribute("aria-pressed", "true");
    section.pinned?.classList.add("pinned");
    if (point || before) show(section, point || before); // also to take back what it says of the pin
    if (!point) clear(section);
  };

  every("section[data-image]").forEach((section) => {
    const points = every(".point", section);
    if (!points.length) return;
    points.forEach((point, at) => {
      for (const moment of ["mouseenter", "focus"]) point.addEventListener(moment, () => show(section, point));
      point.addEventListener("click", () => pin(section, point));
      point.addEventListener("keydown", (event) => {
        const next = move(points, at, event.key), press = event.key === "Enter" || event.key === " ";
        if (event.key === "Escape") pin(section, null);
        if (press) pin(section, point);
        if (next) next.focus();
        if (next || press) event.preventDefault();
      });
      point.addEventListener("blur", () => rest(section));
    });
    every(".node", section).forEach((node) => {
      const point = points.find((each) => each.dataset.key === node.dataset.key);
      if (!point) return;
      node.addEventListener("mouseenter", () => show(section, point));
      node.addEventListener("click", () => pin(section, point));
    });
    every("svg", section).forEach((drawing) => drawing.addEventListener("mouseleave", () => {
      if (!points.includes(document.activeElement) || section.pinned) rest(section);
    }));
    const size = (point) => Math.abs(point.dataset.attribution || 0);
    describe(section, points.reduce((a, b) => size(b) > size(a) ? b : a), ways[section.dataset.way], Number(section.dataset.image));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") every("section[data-image]").filter((section) => section.pinned).forEach((section) => pin(section, null));
  });

  every("nav a").forEach((link, image) => {
    const name = link.textContent;
    link.replaceChildren();
    copy(image, link, name);
  });

  // without this script all ways are shown, one below the other, and all images as given
  let shown = "0";
  const articles = every("article[data-number]"), links = every("nav a");
  const value = (id) => document.getElementById(id)?.value || "";
  const section = (article) => article.querySelector(`section[data-way="${shown}"]`);
  const taken = (article, unknown) => section(article).dataset.taken === "" ? unknown : Number(section(article).dataset.taken);
  const orders = {
    class: (a, b) => a.dataset.label - b.dataset.label,
    most: (a, b) => taken(b, -Infinity) - taken(a, -Infinity),
    least: (a, b) => taken(a, Infinity) - taken(b, Infinity),
    sure: (a, b) => b.dataset.sure - a.dataset.sure,
  };
  const arrange = () => {
    const of = value("class"), decision = value("decision");
    const order = [...articles].sort((a, b) => (orders[value("order")]?.(a, b) || 0) || a.dataset.number - b.dataset.number);
    order.forEach((article) => {
      const kept = (!of || article.dataset.class === of) &&
        (!decision || article.dataset.right === decision || section(article).dataset.flips === decision);
      article.hidden = !kept;
      if (links.length) links[article.dataset.number].hidden = !kept;
    });
    const first = document.querySelector("#by-hand, #classes");
    order.forEach((article) => first ? first.before(article) : document.querySelector("main").append(article));
    order.forEach((article) => links.length && links[0].parentElement.append(links[article.dataset.number]));
    const count = document.getElementById("count");
    if (count) count.textContent = `${articles.filter((article) => !article.hidden).length} of ${articles.length}`;
  };
  const choose = (chosen) => {
    shown = chosen;
    every("section[data-way]").forEach((each) => { each.hidden = each.dataset.way !== chosen; });
    articles.forEach((article) => rest(section(article)));
    arrange();
  };
  const classes = document.getElementById("class");
  if (classes) {
    const counts = new Map();
    articles.forEach(({ dataset }) => counts.set(dataset.class, (counts.get(dataset.class) || 0) + 1));
    [...counts].sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true })).forEach(([name, count]) => {
      element("option", `${name} (${count})`, classes).value = name;
    });
  }
  const tools = document.getElementById("tools");
  tools.hidden = !tools.children.length;
  tools.addEventListener("submit", (event) => event.preventDefault());
  ["class", "decision", "order"].forEach((id) => document.getElementById(id)?.addEventListener("change", arrange));
  every("input[name=way]").forEach((radio) => radio.addEventListener("change", () => choose(radio.value)));
  choose(every("input[name=way]").find((radio) => radio.checked)?.value || "0");
})();
