"use strict";
// What report.html and predictions.html share.

const byId = (id) => document.getElementById(id);
const GAP = "–";

// All text goes through text nodes: a file's name may hold anything.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
const el = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const short = (value) => String(Number(value.toPrecision(4)));

// The dialog #large: buttons and arrow keys turn to the photo before or after.
function prepareDialog(turn) {
  byId("close").addEventListener("click", () => byId("large").close());
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("large").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
}
