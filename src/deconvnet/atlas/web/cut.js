// Parts of pictures, and boxes on them. Boxes are [left, top, right, bottom].
"use strict";

// The picture of a unit in its atlas, or its thumbnail.
function pictureFile(layer, unit, small = false) {
  return `${encodeURIComponent(layer.name)}/${String(unit).padStart(4, "0")}${small ? "-small" : ""}.webp`;
}

// Show in `place` the part of a picture of `width` × `height` pixels that lies in a box.
function cutOut(place, url, [width, height], [left, top, right, bottom]) {
  const [wide, high] = [right - left, bottom - top];
  const share = (before, whole, part) => (whole > part ? (100 * before) / (whole - part) : 0);
  place.style.aspectRatio = `${wide} / ${high}`;
  place.style.backgroundImage = `url("${url}")`;
  place.style.backgroundSize = `${(100 * width) / wide}% ${(100 * height) / high}%`;
  place.style.backgroundPosition = `${share(left, width, wide)}% ${share(top, height, high)}%`;
}

// A picture of `side` × `side` pixels with a frame around a box in it.
function framed(picture, [left, top, right, bottom], side) {
  const frame = element("span", { class: "box" });
  Object.assign(frame.style, {
    left: `${(100 * left) / side}%`, top: `${(100 * top) / side}%`, width: `${(100 * (right - left)) / side}%`, height: `${(100 * (bottom - top)) / side}%`,
  });
  return element("span", { class: "view" }, picture, frame);
}
