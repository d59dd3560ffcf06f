//! How a page looks: light and dark, on phones and on paper.

/// The style sheet. Colours of series are those of [`crate::plot`], brighter on dark ground.
pub(super) const STYLE: &str = "
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1b1f24; --soft: #5a6470; --line: #d5dae0; --box: #f4f6f8;
  --note: #fff6e0; --note-line: #c98a00; --link: #0a5ea8;
  --series-0: #0072B2; --series-1: #D55E00; --series-2: #009E73; --series-3: #CC79A7; --series-4: #56B4E9;
  --series-5: #5A5A5A; --series-6: #E69F00; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --ink: #e6e9ec; --soft: #a3adb8; --line: #3a424b;
  --box: #1d2227; --note: #33290f; --note-line: #d9a636; --link: #7cbcf5;
  --series-0: #4aa8e8; --series-1: #ff8a45; --series-2: #2cc79a; --series-3: #e5a0c6; --series-4: #93d4ff;
  --series-5: #b5b5b5; --series-6: #f2bd44; } }
@media print { :root { --ground: #ffffff; --ink: #000000; --soft: #444444; --line: #bbbbbb; --box: #ffffff;
  --note: #ffffff; --note-line: #000000; --link: #000000;
  --series-0: #0072B2; --series-1: #D55E00; --series-2: #009E73; --series-3: #CC79A7; --series-4: #56B4E9;
  --series-5: #5A5A5A; --series-6: #E69F00; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 84rem; padding: 1rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, \"Segoe UI\", Roboto, \"Helvetica Neue\", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1rem 0 0.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 0.5rem; padding-top: 0.5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 0.25rem; }
a { color: var(--link); }
a:focus-visible, .scroll:focus-visible, summary:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; list-style: none; padding: 0; }
.notes { background: var(--note); border-left: 4px solid var(--note-line); padding: 0.5rem 1rem; margin: 1rem 0; }
.notes ul { margin: 0.25rem 0; padding-left: 1.25rem; }
.notes li, code, pre { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 0.75rem 0; }
table { border-collapse: collapse; font-size: 0.925rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.35rem; }
caption span { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 2.5rem); }
th, td { padding: 0.3rem 0.75rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); white-space: nowrap; }
tbody th { font-weight: 600; min-width: 9rem; }
.number { text-align: right; white-space: nowrap; }
td.text:last-child { min-width: 14rem; }
.of { color: var(--soft); white-space: nowrap; }
figure { margin: 1rem 0; }
figure svg { display: block; width: 100%; min-width: 38rem; max-width: 58rem; height: auto; }
figcaption { color: var(--soft); font-size: 0.925rem; }
.media { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.media figure { margin: 0; }
.media video, .media img { width: 100%; height: auto; border: 1px solid var(--line); }
pre { background: var(--box); border: 1px solid var(--line); padding: 0.5rem 0.75rem; white-space: pre-wrap; }
code { font-family: ui-monospace, \"Cascadia Mono\", Menlo, Consolas, monospace; font-size: 0.9em; }
footer { margin-top: 3rem; color: var(--soft); font-size: 0.925rem; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  .scroll { overflow: visible; } figure, tr, .notes { break-inside: avoid; } h2, h3 { break-after: avoid; }
  figure svg { min-width: 0; } thead { display: table-header-group; } a { text-decoration: none; } }
";
