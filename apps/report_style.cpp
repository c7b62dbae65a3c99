#include "apps/report_style.h"

namespace amalgam {

const char* report_style() {
  return R"css(
:root {
  --paper: #ffffff; --raised: #f5f7fa; --ink: #1b2430; --muted: #566274; --rule: #dfe4ea; --grid: #e9edf2;
  --accent: #1a5fb4; --accent-soft: #e7f0fb; --dot: #8492a6; --bad: #a34400; --bad-soft: #fff2e5;
  --heat0: #eaf1f9; --heat1: #cfe0f1; --heat2: #a9c9e6; --heat3: #7cabd6; --heat4: #4d8ac2; --heat5: #2566a3; --heat6: #0c4277;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #11161d; --raised: #1a212b; --ink: #e4e9f0; --muted: #9facbd; --rule: #2c3642; --grid: #232c37;
    --accent: #83b5f7; --accent-soft: #1b2d45; --dot: #7a899e; --bad: #ffb070; --bad-soft: #362313;
    --heat0: #1b2634; --heat1: #20364f; --heat2: #264a70; --heat3: #326496; --heat4: #4a84bd; --heat5: #7badde; --heat6: #c3defa;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; max-width: 1160px; padding: 0 clamp(16px, 4vw, 48px) 64px; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
header { padding-top: clamp(32px, 6vw, 72px); }
h1 { font-size: clamp(1.8rem, 4.5vw, 2.6rem); line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 1.4rem; line-height: 1.25; letter-spacing: -0.01em; margin: 0 0 8px; }
h3 { font-size: 1.05rem; margin: 32px 0 8px; }
p { margin: 0 0 12px; max-width: 72ch; }
a { color: var(--accent); }
.eyebrow, .note, .missing, footer { color: var(--muted); font-size: 0.875rem; }
.eyebrow { margin-bottom: 8px; }
.result { font-size: clamp(1.1rem, 2.4vw, 1.35rem); line-height: 1.4; margin-bottom: 8px; }
.result strong { color: var(--accent); }
.missing { border: 1px dashed var(--rule); border-radius: 8px; padding: 12px 16px; max-width: none; }
.alert { background: var(--bad-soft); border-left: 4px solid var(--bad); border-radius: 4px; padding: 12px 16px; margin: 16px 0; }
.alert strong { color: var(--bad); }
.alert p, .alert ul { margin: 0; max-width: none; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 24px 0; }
.figures div { background: var(--raised); border-radius: 10px; padding: 14px 18px; display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.figures dt { color: var(--muted); font-size: 0.85rem; line-height: 1.35; }
.figures dd { margin: 0; font-size: 1.7rem; font-weight: 650; letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.figures dd small { font-size: 0.95rem; font-weight: 500; color: var(--muted); letter-spacing: 0; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 20px; list-style: none; margin: 8px 0 0; padding: 12px 0; border-block: 1px solid var(--rule); }
nav a { text-decoration: none; font-size: 0.9rem; }
nav a:hover { text-decoration: underline; }
section { margin-top: 56px; }
.scroll { overflow-x: auto; margin: 16px 0; }
.scroll:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; width: 100%; }
caption { text-align: left; color: var(--muted); font-size: 0.875rem; padding-bottom: 8px; }
caption span { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 32px); }
caption b { color: var(--ink); font-size: 1rem; }
th, td { padding: 7px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); vertical-align: baseline; }
th { font-weight: 500; }
.word { text-align: left; }
thead th { color: var(--muted); font-size: 0.8rem; border-bottom: 1px solid var(--rule); vertical-align: bottom; }
tbody th { position: sticky; left: 0; background: var(--paper); }
tbody tr.reference td, tbody tr.reference th { color: var(--muted); }
tbody tr.last-reference td, tbody tr.last-reference th { border-bottom: 1px solid var(--rule); }
tbody tr.total td, tbody tr.total th { border-top: 1px solid var(--rule); border-bottom: 0; font-weight: 650; }
td.wide, .wide { white-space: normal; min-width: 18ch; }
td strong { color: var(--accent); font-weight: 700; }
td small, th small { color: var(--muted); font-weight: 400; }
th small { display: block; }
tr.bad td, tr.bad th { color: var(--bad); }
.bar { display: block; height: 8px; min-width: 2px; border-radius: 4px; background: var(--accent); }
.bar.memory { background: var(--dot); }
.barbox { display: block; width: clamp(90px, 14vw, 200px); }
code, pre { font: 0.86em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { overflow-wrap: anywhere; }
td code, th code { overflow-wrap: normal; }
.digest { display: inline-block; width: 13ch; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; vertical-align: bottom; }
pre { background: var(--raised); border-radius: 8px; padding: 16px; overflow-x: auto; margin: 8px 0; }
td pre { background: none; padding: 0; margin: 0; }
details { border-top: 1px solid var(--rule); padding: 4px 0; margin-top: 12px; }
details td, details tbody th { padding-block: 4px; }
details + details { margin-top: 0; }
summary { cursor: pointer; padding: 8px 0; color: var(--accent); font-size: 0.95rem; }
figure { margin: 0; min-width: 0; }
figcaption { font-weight: 600; font-size: 0.95rem; margin-bottom: 4px; overflow-wrap: anywhere; }
figcaption small { font-weight: 400; color: var(--muted); }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); gap: 28px 24px; margin: 20px 0; }
.panels.broad { grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); }
svg { display: block; max-width: 100%; height: auto; overflow: visible; }
.broad svg { width: 100%; max-width: 540px; }
.scroll svg { max-width: none; }
svg text { fill: var(--muted); font-size: 12px; font-family: inherit; font-variant-numeric: tabular-nums; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
svg .strong { fill: var(--accent); font-weight: 650; }
svg .grid { stroke: var(--grid); } svg .axis { stroke: var(--dot); } svg .guide { stroke: var(--dot); stroke-dasharray: 2 3; }
svg .limit { stroke: var(--muted); stroke-dasharray: 5 4; }
svg .stem { stroke: var(--dot); stroke-opacity: 0.55; stroke-width: 2; } svg .stem.best { stroke: var(--accent); stroke-width: 3; stroke-opacity: 0.7; }
svg .dot { fill: var(--dot); } svg .dot.best { fill: var(--accent); }
svg .dot.hollow { fill: var(--paper); stroke: var(--muted); stroke-width: 1.6; }
svg polyline { fill: none; stroke-linejoin: round; stroke-linecap: round; }
svg .line { stroke: var(--accent); stroke-width: 2; }
svg .thin { stroke: var(--dot); stroke-width: 1; stroke-opacity: 0.6; }
svg .bold { stroke: var(--accent); stroke-width: 3; }
svg .bad { stroke: var(--bad); stroke-width: 1.8; stroke-dasharray: 6 3; }
svg polyline:hover { stroke-width: 4; stroke-opacity: 1; }
.key { display: inline-flex; align-items: center; gap: 6px; margin-right: 18px; color: var(--muted); font-size: 0.875rem; }
.key svg { flex: none; }
.heat0 { fill: var(--heat0); } .heat1 { fill: var(--heat1); } .heat2 { fill: var(--heat2); } .heat3 { fill: var(--heat3); }
.heat4 { fill: var(--heat4); } .heat5 { fill: var(--heat5); } .heat6 { fill: var(--heat6); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 6px 24px; margin: 16px 0; font-size: 0.95rem; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 64px; border-top: 1px solid var(--rule); padding-top: 16px; }
@media (max-width: 480px) {
  .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: 10px; }
  .figures { grid-template-columns: 1fr 1fr; } .figures div { padding: 12px; } .figures dd { font-size: 1.4rem; }
  section { margin-top: 44px; } th, td { padding: 7px 9px; }
}
@media print {
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { max-width: none; padding: 0; font-size: 11px; }
  nav { display: none; }
  section { margin-top: 24px; }
  h2, h3, caption, figcaption { break-after: avoid; }
  figure, tr, .figures { break-inside: avoid; }
  table { font-size: 9px; } th, td { padding: 3px 5px; }
  .scroll { overflow: visible; } .scroll svg { max-width: 100%; }
  tbody th { position: static; }
  .panels, .panels.broad { grid-template-columns: repeat(2, 1fr); }
}
)css";
}

}  // namespace amalgam
