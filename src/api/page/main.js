// The page: the status line, the chart, what changed, and the lists beside them.

import { html, render, useCallback, useEffect, useState } from "./lib.js";
import { ChartPanel } from "./chart/panel.js";
import { start } from "./live.js";
import { useStore } from "./store.js";
import { Act } from "./panels/act.js";
import { Attention } from "./panels/attention.js";
import { Detail } from "./panels/detail.js";
import { Events } from "./panels/events.js";
import { Explain } from "./panels/explain.js";
import { Proxy } from "./panels/proxy.js";
import { Regions } from "./panels/regions.js";
import { Services } from "./panels/services.js";
import { Tabs } from "./panels/tabs.js";
import { FOR_CHANGES, TokenDialog } from "./panels/token.js";
import { Traffic } from "./panels/traffic.js";
import { StatusLine } from "./status-line.js";

const LICENSES = new URL("vendor/LICENSES.txt", import.meta.url).pathname;

function Page() {
  const status = useStore((state) => state.status);
  const isLocked = useStore((state) => state.link.state === "locked");
  const isLost = useStore((state) => state.link.state === "lost");
  const [tab, setTab] = useState("regions");
  const [asked, setAsked] = useState({});
  const [explained, setExplained] = useState(null);
  // The dialog that is open: `{ act }`, `{ detail }` or `{ token }`; with `isLock` until the page may read.
  const [dialog, setDialog] = useState({});
  const close = useCallback(() => setDialog({}), []);
  const explain = useCallback((question) => {
    setAsked(question);
    setTab("explain");
  }, []);
  const act = useCallback((subject) => setDialog({ act: subject }), []);
  const restore = useCallback((override) => act({ target: override.target, override, action: "restore" }), []);
  const detail = useCallback((node) => setDialog({ detail: node }), []);
  useEffect(() => {
    if (isLocked) setDialog({ token: "This node answers only to those who have a token.", isLock: true });
    else setDialog((open) => (open.isLock ? {} : open));
  }, [isLocked]);

  const found = useStore((state) => state.findings.length);
  const hasServices = status === null || status.services.length > 0 || status.regions.length > 0;
  const tabs = [
    hasServices && { id: "regions", label: "Regions", content: () => html`<${Regions} onAct=${act} onDetail=${detail} />` },
    hasServices && { id: "services", label: "Services", content: () => html`<${Services} onAct=${act} />` },
    status?.services.length > 0 && { id: "traffic", label: "Traffic", content: () => html`<${Traffic} />` },
    status?.pools.length > 0 && { id: "proxy", label: "Proxy", content: () => html`<${Proxy} onAct=${act} onDetail=${detail} />` },
    { id: "attention", label: "Findings", badge: found, content: () => html`<${Attention} onRestore=${restore} />` },
    { id: "explain", label: "Explain", content: () => html`<${Explain} asked=${asked} onAsk=${setAsked} onExplained=${setExplained} />` },
  ].filter(Boolean);
  return html`
    <${StatusLine} onFindings=${() => setTab("attention")} onToken=${() => setDialog({ token: FOR_CHANGES })} />
    <main class=${isLost ? "stale" : ""}>
      ${hasServices && html`<${ChartPanel} explained=${tab === "explain" ? explained : null} onExplain=${explain} />`}
      <${Tabs} covered=${Boolean(dialog.act)} tabs=${tabs} chosen=${tabs.some(({ id }) => id === tab) ? tab : tabs[0].id} onChoose=${setTab} />
      ${dialog.act && html`<${Act} key=${dialog.act} subject=${dialog.act} onClose=${close} />`}
      <${Events} />
    </main>
    <footer class="colophon">
      <p>Portolan. Where clients are: <a href="https://db-ip.com" rel="noreferrer">IP Geolocation by DB-IP</a>. Outlines: Natural Earth.${" "}
        <a href=${LICENSES}>Licences</a></p>
    </footer>
    ${dialog.detail && html`<${Detail} node=${dialog.detail} onClose=${close} />`}
    ${dialog.token && html`<${TokenDialog} why=${dialog.token} onClose=${close} />`}`;
}

start();
render(html`<${Page} />`, document.getElementById("page"));
