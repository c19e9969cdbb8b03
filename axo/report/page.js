// The list of samples: searched, filtered, and built only as far as somebody looks.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const BATCH = 50;
const PREVIEW_TOKENS = 60;
const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Zl}\p{Zp}]|(?! )\s/u;
const [TOKEN_ID, TOKEN_TEXT] = [0, 1];
const [KIND, PART, WHY] = [0, 1, 2];

const list = document.getElementById("list");
const more = document.getElementById("more");
const found = document.getElementById("found");
const tip = document.getElementById("tip");
let matching = [];
let shown = 0;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const count = (number) => number.toLocaleString("en");
const trained = (look) => look.status === "dropped" ? "would be trained" : "trained";
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

// Searching and filtering.

function textOf(row) {
  row.text ??= row.looks.map((look) => look.tokens.map((at) => data.vocabulary[at][TOKEN_TEXT]).join("")).join("\n").toLowerCase();
  return row.text;
}

const HAS = {
  weights: (look) => look.runs.some((run) => run[2] !== 0 && run[2] !== 1),
  truncated: (look) => look.status === "truncated" || look.status === "cut",
  dropped: (look) => look.status === "dropped",
  differs: (look) => look.parity?.verdict === "differs" || look.parity?.verdict === "tokens differ",
};

function filter() {
  const wanted = document.getElementById("search").value.toLowerCase();
  const set = document.getElementById("set").value;
  const role = document.getElementById("role").value;
  const marks = [...document.querySelectorAll("#filters input:checked")].map((box) => HAS[box.value]);
  matching = data.rows.filter((row) =>
    (set === "" || row.set === Number(set)) &&
    (role === "" || row.looks.some((look) => Object.hasOwn(look.roles, role))) &&
    marks.every((has) => row.looks.some(has)) &&
    (wanted === "" || textOf(row).includes(wanted)));
  shown = 0;
  list.replaceChildren();
  found.textContent = `${count(matching.length)} of the ${plural(data.rows.length, "row")} in this page`;
  showMore();
}

function showMore() {
  list.append(...matching.slice(shown, shown + BATCH).map(item));
  shown = Math.min(shown + BATCH, matching.length);
  more.hidden = shown === matching.length;
}

// One row: a line, and its tokens once it is opened.

function item(row) {
  const made = element("li");
  const details = element("details");
  const line = element("summary");
  line.append(
    element("span", "place", `${data.sets[row.set].key}, row ${count(row.number)}`),
    element("span", "numbers", row.looks.map((look) => `${count(look.trained)} of ${plural(look.length, "token")} ${trained(look)}`).join(" / ")));
  for (const flag of flags(row)) line.append(element("span", "flag", flag));
  line.append(element("span", "preview", preview(row)));
  details.append(line);
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(opened(row));
  });
  made.append(details);
  return made;
}

function flags(row) {
  const words = row.looks.filter((look) => look.status !== "kept").map((look) => look.fate);
  if (row.looks.some(HAS.weights)) words.push("weights");
  if (row.looks.some(HAS.differs)) words.push("asked otherwise than trained");
  return new Set(words);
}

function preview(row) {
  const look = row.looks[0];
  return look.tokens.slice(0, PREVIEW_TOKENS).map((at) => data.vocabulary[at][TOKEN_TEXT]).join("").replace(/[\s\p{C}]+/gu, " ");
}

function opened(row) {
  const panel = element("div");
  panel.append(element("p", "quiet", `${row.file}:${row.line}`));
  const looks = element("div", "looks");
  looks.append(...row.looks.map(sample));
  panel.append(looks);
  return panel;
}

function sample(look) {
  const made = element("div");
  if (look.side) made.append(element("h3", "", look.side));
  const roles = Object.entries(look.roles).map(([role, [tokens, trained]]) => `${role} ${count(trained)} of ${count(tokens)}`);
  const words = [`${plural(look.length, "token")}, ${count(look.trained)} ${trained(look)}`, look.fate];
  if (roles.length) words.splice(1, 0, `by role: ${roles.join(", ")}`);
  if (look.straddling) words.push(`${plural(look.straddling, "token")} with both text to train and text not to train`);
  if (look.tokens.length < look.length) words.push(`the first ${count(look.tokens.length)} tokens are in this page`);
  made.append(element("p", "quiet", words.join("; ")));
  made.append(...parity(look.parity), tokens(look));
  return made;
}

function parity(one) {
  if (one?.verdict === "same") return [element("p", "quiet", "The prompt of the last answer begins the trained text, to the letter.")];
  if (one?.verdict === "tokens differ") return [element("p", "flag", "The prompt's text begins the trained text, but its tokens do not: the answer is joined to the prompt's end.")];
  if (one?.verdict !== "differs") return [];
  const asked = element("pre");
  asked.append("asked with:   …", ...signs(one.prompt, false), "…\ntrained with: …", ...signs(one.text, false), "…");
  return [element("p", "flag", `The prompt differs from the trained text after ${plural(one.at, "character")}.`), asked];
}

// Tokens.

function tokens(look) {
  const box = element("div", "tokens");
  let at = 0;
  for (const [length, why, weight] of look.runs) {
    for (const end = Math.min(at + length, look.tokens.length); at < end; at++) {
      if (at > 0 && look.starts.includes(at)) box.append(element("span", "begin", "next sample"));
      box.append(token(look, at, why, weight));
    }
    if (weight !== 0 && weight !== 1) box.append(element("span", "weight", `×${weight}`));
  }
  if (box.firstElementChild) box.firstElementChild.tabIndex = 0;
  box.addEventListener("keydown", walk);
  return box;
}

function token(look, at, why, weight) {
  const [id, text] = data.vocabulary[look.tokens[at]];
  const [kind, part, reason] = data.why[why];
  const made = element("span", "t");
  made.classList.toggle("on", weight > 0);
  made.classList.toggle("end", kind === "end");
  made.classList.toggle("template", kind === "template" || kind === "added");
  made.classList.toggle("cut", weight === 0 && /^(cut off|dropped)/.test(reason));
  if (weight > 0 && weight !== 1) made.style.setProperty("--weight", Math.min(weight, 1));
  made.append(...(text === "" ? [element("span", "sign", "◦")] : signs(text, true)));
  made.tabIndex = -1;
  made.token = { id, text, piece: data.vocabulary[look.tokens[at]][2] ?? text, at, part, reason, weight };
  return made;
}

// The text with a sign for each character that cannot be seen.
function signs(text, breaks) {
  const parts = [];
  let plain = "";
  for (const character of text) {
    if (!HIDDEN.test(character)) {
      plain += character;
      continue;
    }
    if (plain) parts.push(plain);
    plain = character === "\n" && breaks ? "\n" : "";
    parts.push(element("span", "sign", sign(character)));
  }
  if (plain) parts.push(plain);
  return parts;
}

function sign(character) {
  if (character === "\n") return "⏎";
  if (character === "\t") return "⇥";
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

function walk(event) {
  const step = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
  let next = step && event.target[step];
  while (next && !next.token) next = next[step];
  if (!next) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

// The tooltip.

function tell(event) {
  const target = event.target.closest?.(".tokens .t");
  if (!target) return hide();
  const { id, text, piece, at, part, reason, weight } = target.token;
  const so = weight === 0 ? "not trained" : weight === 1 ? "trained" : `trained ×${weight}`;
  const written = element("div");
  written.append(`token ${count(at + 1)}, id ${id}: “`, ...signs(text === "" ? piece : text, false), "”");
  tip.replaceChildren(written, element("div", "", `${so}: ${part}${reason ? ` — ${reason}` : ""}`));
  tip.hidden = false;
  const box = target.getClientRects()[0];
  const left = Math.min(box.left, innerWidth - tip.offsetWidth - 8);
  const below = box.bottom + 6 + tip.offsetHeight < innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${below ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
}

function hide() {
  tip.hidden = true;
}

// Beginning.

for (const [number, set] of data.sets.entries()) {
  const option = element("option", "", `${set.key}: ${set.name}`);
  option.value = number;
  document.getElementById("set").append(option);
}
for (const role of new Set(data.rows.flatMap((row) => row.looks.flatMap((look) => Object.keys(look.roles))))) {
  document.getElementById("role").append(element("option", "", role));
}
document.getElementById("filters").addEventListener("input", filter);
document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", showMore);
list.addEventListener("mouseover", tell);
list.addEventListener("focusin", tell);
list.addEventListener("mouseleave", hide);
list.addEventListener("focusout", hide);
addEventListener("keydown", (event) => event.key === "Escape" && hide());
addEventListener("scroll", () => tell({ target: document.activeElement }), true);
filter();
