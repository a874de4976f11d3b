// A list of any length, of which only the rows in view are there.

import { classes, html, useEffect, useRef, useSize, useState } from "../lib.js";

// Every row is as high; style.css has the same number.
const ROW = 54;

// Rows beyond each end of the view that are there as well, so that the keyboard finds something to move to.
const MARGIN = 8;

// `render(item)` makes the content of a row, `keyOf(item)` its key, `classOf(item)` its class.
export function Rows({ items, keyOf, render, classOf = () => "", label, empty }) {
  const frame = useRef(null);
  const { height } = useSize(frame);
  const [top, setTop] = useState(0);
  // When the list gets shorter, the browser scrolls without saying so in time.
  useEffect(() => setTop(frame.current.scrollTop), [items.length]);
  const first = Math.max(0, Math.floor(top / ROW) - MARGIN);
  const end = Math.min(items.length, Math.ceil((top + height) / ROW) + MARGIN);
  return html`<div class="rows" ref=${frame} role="group" aria-label=${label} tabindex="0" onScroll=${(event) => setTop(event.currentTarget.scrollTop)} onKeyDown=${moveFocus}>
    ${items.length === 0 && html`<p class="note">${empty}</p>`}
    <ul role="list" style=${{ height: `${items.length * ROW}px` }}>
      ${items.slice(first, end).map((item, at) => html`<li key=${keyOf(item)} class=${classes("row", classOf(item))}
          aria-setsize=${items.length} aria-posinset=${first + at + 1}
          style=${{ transform: `translateY(${(first + at) * ROW}px)` }}>${render(item)}</li>`)}
    </ul>
  </div>`;
}

// The arrow keys move from row to row.
function moveFocus(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const row = step && event.target.closest(".row");
  if (!row) return;
  const place = Number(row.getAttribute("aria-posinset")) + step;
  const next = event.currentTarget.querySelector(`[aria-posinset="${place}"] button`);
  if (!next) return;
  event.preventDefault();
  next.focus();
}

// The sign of a level, with a word for those who do not see it.
export const Sign = ({ level, word, sign }) =>
  html`<span class="sign ${level}" role="img" aria-label=${word} title=${word}>${sign}</span>`;
