"""The fixed parts of a gallery's page: its style, its body, and the few lines by which it sorts and filters."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
body { margin: 0; }
header { position: sticky; top: 0; z-index: 1; background: var(--paper); border-bottom: 1px solid var(--line);
padding: .7rem 1.2rem; }
h1 { margin: 0 0 .5rem; font-size: 1.05rem; font-weight: 600; }
form { display: flex; flex-wrap: wrap; gap: .5rem .9rem; align-items: center; }
input, select, button { font: inherit; color: inherit; }
input[type=search], select { background: var(--sunk); border: 1px solid var(--line); border-radius: 6px;
padding: .2rem .5rem; }
input[type=search] { width: min(18rem, 60vw); } label { color: var(--dim); }
output { margin-left: auto; color: var(--dim); font-variant-numeric: tabular-nums; }
main { padding: 1rem 1.2rem 3rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(168px, 1fr)); gap: .8rem; }
section { border: 1px solid var(--line); border-radius: 10px; padding: .6rem .8rem .8rem; margin: 0 0 1rem; }
h2 { margin: 0 0 .5rem; font-size: .85rem; font-weight: 600; color: var(--dim); }
.card { display: flex; flex-direction: column; min-width: 0; padding: 0; text-align: left; cursor: pointer;
background: var(--sunk); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
.card:hover { border-color: var(--accent); }
.card:focus-visible { outline: 3px solid var(--accent); outline-offset: 1px; }
.picture { display: block; width: 100%; height: 160px; object-fit: contain; }
span.picture { display: grid; place-items: center; color: var(--dim); font-size: .8rem; }
.about { padding: .35rem .55rem .5rem; font-size: .76rem; line-height: 1.35; width: 100%; box-sizing: border-box; }
.name { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.facts { color: var(--dim); } .mark { display: block; color: var(--mark); }
dialog { width: min(92vw, 46rem); box-sizing: border-box; border: 1px solid var(--line); border-radius: 12px;
background: var(--paper); color: var(--ink); padding: 1.2rem; }
dialog::backdrop { background: #000a; }
dialog > img { display: block; width: 100%; height: min(50vh, 26rem); object-fit: contain; background: var(--sunk);
border-radius: 8px; margin-bottom: 1rem; }
dialog > p { margin: 0 0 .8rem; overflow-wrap: anywhere; } dialog dl { margin: 0 0 1rem; gap: .4rem 1.4rem; }
dialog dd { font-size: 1em; } dialog .grid { grid-template-columns: repeat(auto-fill, minmax(110px, 1fr)); }
dialog .picture { height: 90px; }
"""

BODY: Final = """
<header><h1></h1><form>
<input type="search" id="filter" placeholder="Filter by name or format" aria-label="Filter by name or format">
<label>Show <select id="show"><option value="all">all images</option><option value="same">identical ones</option>
<option value="alike">identical and look-alike ones</option><option value="failed">those that failed</option>
</select></label>
<label>Sort by <select id="sort"><option value="">name</option><option value="b">bytes</option>
<option value="pixels">pixels</option><option value="t">date taken</option><option value="s">sharpness</option>
</select></label>
<label><input type="checkbox" id="down"> descending</label>
<output aria-live="polite"></output></form></header>
<noscript><p>This page lists its images by JavaScript, which is off.</p></noscript>
<main></main><dialog></dialog>
"""

# Names come into the page as text alone. Cards are made as they are scrolled to: 10,000 at once would take seconds.
SCRIPT: Final = """
"use strict";
const [about, ...images] = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id), main = document.querySelector("main");
const dialog = document.querySelector("dialog"), number = new Intl.NumberFormat("en");
const make = (tag, kind, text) => {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
};
const size = bytes => {
  if (bytes === undefined) return "";
  const unit = bytes < 999.5 ? 0 : bytes < 999500 ? 1 : bytes < 999500000 ? 2 : 3;
  return `${Number((bytes / 1000 ** unit).toPrecision(3))} ${["B", "kB", "MB", "GB"][unit]}`;
};
const groups = {same: new Map(), alike: new Map()};
for (const image of images) {
  image.d ??= image.u;
  image.g ??= image.d;
  image.pixels = image.w && image.w * image.h;
  image.found = `${image.n} ${image.f ?? ""}`.toLowerCase();
  if (image.e !== undefined) continue;
  for (const [kind, key] of [["same", image.d], ["alike", image.g]]) {
    if (!groups[kind].has(key)) groups[kind].set(key, []);
    groups[kind].get(key).push(image);
  }
}
const others = (kind, image) =>
  image.e === undefined ? groups[kind].get(kind === "same" ? image.d : image.g).length - 1 : 0;

const picture = image => {
  if (!image.p) return make("span", "picture", image.e === undefined ? "no picture" : "failed");
  const made = make("img", "picture");
  made.loading = "lazy";
  made.decoding = "async";
  made.alt = "";
  made.src = image.p;
  if (image.c) made.style.background = `rgb(${image.c.join(" ")} / .18)`;
  return made;
};
const card = image => {
  const made = make("button", "card"), told = make("span", "about");
  made.type = "button";
  made.title = image.n;
  told.append(make("span", "name", image.n));
  const facts = image.w ? `${image.w} \u00d7 ${image.h} · ${size(image.b)}` : size(image.b);
  told.append(make("span", "facts", facts));
  const same = others("same", image), alike = others("alike", image) - same;
  const marks = [image.e && "failed", same && `${same + 1} identical`, alike && `${alike} alike`].filter(Boolean);
  if (marks.length) told.append(make("span", "mark", marks.join(", ")));
  made.append(picture(image), told);
  made.onclick = () => open(image);
  return made;
};
const open = image => {
  const facts = make("dl"), fact = (name, value) => {
    if (value === undefined || value === "") return;
    const both = make("div");
    both.append(make("dt", "", name), make("dd", "", value));
    facts.append(both);
  };
  fact("size", image.w && `${image.w} \u00d7 ${image.h}`);
  fact("bytes", image.b === undefined ? undefined : number.format(image.b));
  fact("format", image.f);
  fact("taken", image.t && image.t.replace("T", " "));
  fact("sharpness", image.s);
  fact("why it failed", image.e);
  dialog.replaceChildren();
  if (image.p) {
    const large = make("img");
    large.alt = "";
    large.src = image.p;
    dialog.append(large);
  }
  dialog.append(make("p", "", image.u), facts);
  const alike = image.e === undefined ? groups.alike.get(image.g).filter(other => other !== image) : [];
  if (alike.length) {
    const grid = make("div", "grid");
    grid.append(...alike.slice(0, 60).map(card));
    const more = alike.length > 60 ? `, of which 60 are shown` : "";
    dialog.append(make("h2", "", `${number.format(alike.length)} identical or look-alike${more}`), grid);
  }
  const close = make("button", "", "Close");
  close.onclick = () => dialog.close();
  dialog.append(close);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
};
dialog.onclick = event => { if (event.target === dialog) dialog.close(); };

let waiting = [], grid;
const end = make("div");
const fill = () => {
  let left = 200;
  more.disconnect();
  end.remove();
  while (waiting.length && left > 0) {
    const set = waiting[0];
    if (!set.begun) {
      set.begun = true;
      grid = make("div", "grid");
      const around = set.title ? make("section") : main;
      if (set.title) around.append(make("h2", "", set.title));
      around.append(grid);
      if (set.title) main.append(around);
    }
    const some = set.members.splice(0, left);
    left -= some.length;
    grid.append(...some.map(card));
    if (!set.members.length) waiting.shift();
  }
  if (waiting.length) {
    main.append(end);
    more.observe(end);
  }
};
const more = new IntersectionObserver(entries => {
  if (entries.some(entry => entry.isIntersecting)) fill();
}, {rootMargin: "1500px"});
const compare = () => {
  const key = at("sort").value, sign = at("down").checked ? -1 : 1;
  if (!key) return sign === 1 ? null : (one, other) => (one.n < other.n) - (one.n > other.n);
  return (one, other) => {
    const [first, second] = [one[key], other[key]];
    if (first === undefined || second === undefined) return (first === undefined) - (second === undefined);
    return sign * ((first > second) - (first < second));
  };
};
const show = () => {
  const words = at("filter").value.toLowerCase().split(/\\s+/).filter(Boolean), kind = at("show").value;
  const grouped = kind === "same" || kind === "alike";
  let found = images.filter(image => words.every(word => image.found.includes(word))
    && (kind === "all" || (grouped ? others(kind, image) > 0 : image.e !== undefined)));
  const order = compare();
  if (order) found = found.sort(order);
  waiting = [];
  if (grouped) {
    const sets = new Map();
    for (const image of found) {
      const key = kind === "same" ? image.d : image.g;
      if (!sets.has(key)) sets.set(key, []);
      sets.get(key).push(image);
    }
    for (const [key, members] of sets) {
      const all = groups[kind].get(key).length;
      const word = kind === "same" ? "identical" : "identical or look-alike";
      waiting.push({title: `${number.format(all)} ${word}`, members});
    }
  } else if (found.length) waiting.push({members: found.slice()});
  const shown = `${number.format(found.length)} of ${number.format(about.images)} images`;
  const first = about.shown < about.images ? `; the page has the first ${number.format(about.shown)}` : "";
  document.querySelector("output").textContent = shown + first;
  main.replaceChildren();
  if (!found.length) main.append(make("p", "facts", "No image is like that."));
  fill();
};
document.querySelector("h1").textContent = about.title;
document.querySelector("form").onsubmit = event => event.preventDefault();
document.querySelector("form").oninput = show;
show();
"""
