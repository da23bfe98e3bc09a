// A text area with marks beneath its text: a copy of the text lies behind it, whose marks shine through.

class Editor {
  // `changed` is called as the user types.
  constructor(id, changed) {
    this.area = byId(id);
    this.back = this.area.previousElementSibling;
    this.marks = [];
    this.area.addEventListener("input", () => {
      this.mark([]);
      changed();
    });
    this.area.addEventListener("scroll", () => this.follow(), {passive: true});
    this.area.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.follow()).observe(this.area);
  }

  get text() {
    return this.area.value;
  }

  set text(text) {
    this.area.value = text;
    this.mark([]);
    this.area.scrollTop = 0;
    this.area.scrollLeft = 0;
  }

  // Underlines or highlights [{start, end, kind, title}], in UTF-16 units, in order.
  mark(marks) {
    this.marks = marks;
    const text = this.text;
    const pieces = [];
    let at = 0;
    for (const {start, end, kind} of marks) {
      if (start < at || start > text.length) continue;
      const stop = Math.min(Math.max(end, start + 1), text.length);
      pieces.push(text.slice(at, start));
      // A place at a line's end or the text's has no character of its own.
      const marked = text.slice(start, stop);
      pieces.push(el("mark", {class: kind}, marked === "" || marked === "\n" ? "\u00a0" : marked));
      if (marked === "\n") pieces.push("\n");
      at = stop;
    }
    // Without a mark there is nothing to shine through, and so no need for the text.
    this.back.replaceChildren(...(marks.length ? [...pieces, text.slice(at), "\n"] : []));
    this.follow();
  }

  follow() {
    this.back.style.width = `${this.area.clientWidth}px`;
    this.back.scrollTop = this.area.scrollTop;
    this.back.scrollLeft = this.area.scrollLeft;
  }

  select(start, end) {
    this.area.focus();
    this.area.setSelectionRange(start, end);
  }

  // Enter keeps the indentation, Tab indents where that is what one wants: in rules and policies. Escape gives Tab back.
  key(event) {
    if (this.area.getAttribute("wrap") !== "off" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") this.leaves = true;
    else if (event.key === "Tab" && !event.shiftKey && !this.leaves) this.insert(event, "  ");
    else if (event.key === "Enter") {
      const before = this.text.slice(0, this.area.selectionStart);
      this.insert(event, "\n" + /[ ]*$/.exec(/(?:^|\n)([ ]*)[^\n]*$/.exec(before)[1])[0]);
    } else if (event.key !== "Tab") this.leaves = false;
  }

  insert(event, text) {
    event.preventDefault();
    // The only way that keeps what can be undone.
    document.execCommand("insertText", false, text);
  }
}
