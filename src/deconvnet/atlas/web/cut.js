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

// A picture of `width` × `height` pixels with a frame around a box in it; or around the same box in each of several pictures
// that it is composed of, whose corners are given.
function framed(picture, [left, top, right, bottom], [width, height], corners = [[0, 0]]) {
  const frames = corners.map(([x, y]) => {
    const frame = element("span", { class: "box" });
    Object.assign(frame.style, {
      left: `${(100 * (x + left)) / width}%`, top: `${(100 * (y + top)) / height}%`, width: `${(100 * (right - left)) / width}%`, height: `${(100 * (bottom - top)) / height}%`,
    });
    return frame;
  });
  return element("span", { class: "view" }, picture, ...frames);
}
