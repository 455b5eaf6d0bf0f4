/** The Markdown that models like to write, as elements. Texts are put in as texts, so nothing in them is ever run. */

/**
 * Shows Markdown; only blocks that have changed since the last time are made anew.
 *
 * @param {HTMLElement} place - where
 * @param {string} markdown - the text
 * @param {string[]} shown - the blocks that are there, kept up to date
 */
export function showText(place, markdown, shown) {
  const blocks = markdown.split(/\n{2,}/).filter((block) => block.trim());
  blocks.forEach((block, n) => {
    if (shown[n] === block) return;
    shown[n] = block;
    const made = blockOf(block.trim());
    if (place.children[n]) place.children[n].replaceWith(made);
    else place.append(made);
  });
  shown.length = blocks.length;
  while (place.children.length > blocks.length) place.lastChild.remove();
}

function blockOf(text) {
  if (text.startsWith("# ")) return make("h3", text.slice(2));
  if (/^#{2,6} /.test(text)) return make("h4", text.replace(/^#+ /, ""));
  const lines = text.split("\n");
  if (!lines.every((line) => /^[-*] /.test(line))) return marked("p", text);
  const list = make("ul");
  list.append(...lines.map((line) => marked("li", line.slice(2))));
  return list;
}

function marked(tag, text) {
  const made = make(tag);
  for (const part of text.split(/(\*\*[^*]+\*\*|\[[\w.-]+\.md\])/)) {
    if (part.startsWith("**") && part.endsWith("**")) made.append(make("strong", part.slice(2, -2)));
    else if (/^\[.*\.md\]$/.test(part)) made.append(Object.assign(make("span", part), { className: "source" }));
    else made.append(part);
  }
  return made;
}

/** An element with a text in it. */
export function make(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}
