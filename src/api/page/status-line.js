// The line that an engineer on call reads from across the room: all well, or what is not.

import { html, useEffect, useState } from "./lib.js";
import { LEVELS, summary } from "./health.js";
import { reconnect } from "./live.js";
import { useStore } from "./store.js";
import { duration } from "./words.js";

export function StatusLine({ onFindings, onToken }) {
  const link = useStore((state) => state.link);
  const status = useStore((state) => state.status);
  const findings = useStore((state) => state.findings);
  const self = useStore((state) => state.self);
  const { level, headline, detail } = summary({ link, status, findings });
  useEffect(() => {
    document.title = `${LEVELS[level].sign} ${headline} – ${status?.node.name ?? "Portolan"}`;
  }, [level, headline, status?.node.name]);
  return html`<header class="status ${level}">
    <span class="sign ${level}" aria-hidden="true">${LEVELS[level].sign}</span>
    <div class="said" role="status">
      <h1>${headline}</h1>
      <p>${detail}</p>
    </div>
    <div class="about">
      ${status && html`<p><strong>${status.node.name}</strong> ${status.node.version}</p>
        <p class="quiet">epoch ${status.node.epoch}, up ${duration(status.node.uptime_s)}</p>`}
    </div>
    <nav aria-label="Page">
      ${link.state === "lost" && html`<button onClick=${reconnect}>Try now</button>`}
      ${level !== "well" && link.state === "live" && html`<button onClick=${onFindings}>Findings</button>`}
      <button onClick=${onToken}>${self && self.role !== "viewer" ? self.by : "Token"}</button>
      <${Theme} />
    </nav>
  </header>`;
}

const THEMES = { system: "◐", light: "☀", dark: "☾" };

function Theme() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme);
  const next = () => {
    const names = Object.keys(THEMES);
    const chosen = names[(names.indexOf(theme) + 1) % names.length];
    localStorage.setItem("portolan.theme", chosen);
    document.documentElement.dataset.theme = chosen;
    setTheme(chosen);
  };
  return html`<button class="theme" onClick=${next} title="Light, dark, or as the system">
    <span aria-hidden="true">${THEMES[theme]}</span><span class="visually-hidden">Colours: ${theme}</span></button>`;
}
