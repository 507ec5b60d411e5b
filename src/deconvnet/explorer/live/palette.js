// Numbers as colours: dark is low, bright is high.
"use strict";

const STOPS = [[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];

// The colour of a share from 0 to 1, as [red, green, blue].
function colour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const stop = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[stop].map((low, channel) => Math.round(low + (STOPS[stop + 1][channel] - low) * (place - stop)));
}

// Paint rows of values into a canvas, a pixel each; `most` is the brightest.
function paintMap(canvas, rows, most) {
  const [height, width] = [rows.length, rows[0].length];
  Object.assign(canvas, { width, height });
  const pixels = new ImageData(width, height);
  rows.flat().forEach((value, index) => pixels.data.set([...colour(value / (most || 1)), 255], 4 * index));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}
