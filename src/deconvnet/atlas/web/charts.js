// Drawings of numbers: a histogram of maxima, bars of classes. Each says in words what it shows.
"use strict";

// Counts of maxima in logarithmic bins; only the decades that hold some are drawn.
function histogram(counts, edges) {
  const filled = counts.flatMap((count, bin) => (count ? [bin] : []));
  if (!filled.length) return element("p", {}, "It was never active.");
  const first = Math.max(0, filled[0] - 1);
  const last = Math.min(counts.length - 1, filled.at(-1) + 1);
  const most = Math.max(...counts);
  const [width, height, floor] = [320, 120, 96];
  const step = width / (last - first + 1);
  const bars = counts.slice(first, last + 1).map((count, index) => {
    const tall = (count / most) * (floor - 6);
    const range = binRange(first + index, edges);
    return shape(
      "rect",
      { x: index * step + 1, y: floor - tall, width: Math.max(step - 2, 1), height: tall },
      shape("title", {}, `${range}: ${plural(count, book.noun)}`),
    );
  });
  const ticks = [];
  for (let bin = first; bin <= last; bin++) {
    const edge = edges[bin - 1]; // the lower bound of the bin
    if (edge === undefined || (bin - 1) % (last - first > 12 ? 4 : 2)) continue;
    ticks.push(shape("text", { x: (bin - first) * step, y: height - 8, "text-anchor": bin === first ? "start" : "middle" }, number(edge)));
  }
  const middle = median(counts);
  return shape(
    "svg",
    {
      class: "histogram", viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `Histogram of the unit's maximum in each ${book.noun} where it is active; half of them are below ${binRange(middle, edges).split(" to ").at(-1)}.`,
    },
    shape("line", { x1: 0, x2: width, y1: floor, y2: floor }),
    ...bars,
    ...ticks,
  );
}

function histogramMeaning(counts) {
  const active = counts.reduce((sum, count) => sum + count, 0);
  return active ? `in the ${plural(active, book.noun)} where it is active; the tallest bar is ${plural(Math.max(...counts), book.noun)}` : "";
}

function binRange(bin, edges) {
  if (bin === 0) return `0 to ${number(edges[0])}`;
  return bin < edges.length ? `${number(edges[bin - 1])} to ${number(edges[bin])}` : `from ${number(edges.at(-1))}`;
}

// The bin that half of all counts lie in or below.
function median(counts) {
  const half = counts.reduce((sum, count) => sum + count, 0) / 2;
  let sum = 0;
  return counts.findIndex((count) => (sum += count) >= half);
}

// Rows of a name, a bar and a value; `rows` are {name, value, text}, `most` is what a full bar stands for. With `href` the
// name is a link; with `before` the bar has a mark there.
function bars(rows, most) {
  return element(
    "ol",
    { class: "bars" },
    ...rows.map(({ name, value, text, href, before }) => {
      const bar = element("span", { class: "bar" });
      bar.style.width = `${(100 * value) / most}%`;
      const mark = before === undefined || before === null ? null : element("span", { class: "before" });
      if (mark) mark.style.left = `${(100 * before) / most}%`;
      const label = href ? element("a", { href }, name) : name;
      return element("li", {}, element("span", { class: "name" }, label), element("span", { class: "track" }, bar, mark), element("span", { class: "value" }, text));
    }),
  );
}
