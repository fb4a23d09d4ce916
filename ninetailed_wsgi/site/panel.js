// The panel of a preview: what is personalized on this page, what it would be otherwise, and why, with switches.
// Made of elements and text alone, in a shadow root beside the body, so that no policy, style or name of the page harms it.
(() => {
  "use strict";
  const block = document.getElementById("ninetailed-panel");
  if (!block) return;
  const data = JSON.parse(block.textContent);
  document.querySelector("nt-panel")?.remove(); // of a page that was swapped for this one

  // What a page remembers until the next: whether the panel is open, and where a switch was.
  const memory = {
    read: (name) => { try { return JSON.parse(sessionStorage.getItem("nt-panel-" + name)); } catch { return null; } },
    keep: (name, value) => { try { sessionStorage.setItem("nt-panel-" + name, JSON.stringify(value)); } catch { /* not here */ } },
  };

  // Characters that would turn or hide others are written as their codes.
  const visible = (text) => String(text).replace(
    /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (each) => `[U+${each.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`,
  );
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "onclick") element.addEventListener("click", value);
      else if (value !== null) element.setAttribute(name, value);
    }
    element.append(...children.map((child) => (typeof child === "string" ? visible(child) : child)));
    return element;
  };
  const name = (text, tag = "bdi") => make(tag, {}, text);

  const words = (index) => (index === null ? "baseline" : index === 0 ? "control" : `variant ${index}`);
  const shows = (each, index) => {
    const told = index === null ? "" : each.variants[index];
    return [words(index), ...(told ? [": ", name(told)] : [])];
  };
  const marks = () => [...document.querySelectorAll("[data-nt-shown], [data-nt-track]")];
  const markOf = (element) => {
    try {
      const [shown, experience, index] = JSON.parse(element.dataset.ntShown ?? element.dataset.ntTrack);
      return { shown, experience, index };
    } catch { return null; }
  };

  // Switches: an address below the site's prefix changes the preview and leads back here. With the origin, as a base
  // element of the page, or a path that begins with two slashes, would lead to another site.
  const switchTo = (key, query) => {
    memory.keep("at", [location.pathname, key, scrollY, body.scrollTop]);
    const back = location.pathname + location.search;
    location.assign(`${location.origin}${data.switch}?${new URLSearchParams({ ...query, proof: data.proof, back })}${location.hash}`);
  };
  const end = () => {
    const query = new URLSearchParams(location.search);
    query.set("nt_preview", "off");
    location.assign(`${location.origin}${location.pathname}?${query}${location.hash}`);
  };
  const choices = (kind, each, options) => {
    const group = make("div", { role: "group", class: "choices", "aria-label": visible(`Show ${each.name}`) });
    for (const [to, label, pressed, hint] of options) {
      const key = `${kind} ${each.id} ${to}`;
      const title = hint ? visible(hint) : null;
      group.append(make("button", {
        type: "button", "aria-pressed": String(pressed), title, "data-key": key,
        onclick: () => switchTo(key, { [kind]: each.id, to }),
      }, label));
    }
    return group;
  };

  const row = (term, ...told) => [make("dt", {}, term), make("dd", {}, ...told)];
  const audiences = new Map(data.audiences.map((each) => [each.id, each]));
  const experience = (each) => {
    const asked = each.asked.flatMap(([kind, id, decides], index) => [
      index ? ", " : "", `${kind} `, name(id), decides || each.shown === null ? "" : " (decided by another experience)",
    ]);
    const changed = each.shown !== each.natural;
    const audience = audiences.get(each.audience);
    return make("section", { class: changed ? "card changed" : "card" },
      name(each.name, "h3"),
      make("dl", {},
        ...(asked.length ? row("Asked", ...asked) : []),
        ...row("For", audience ? name(audience.name) : "everyone"),
        ...row("Shown", ...shows(each, each.shown)),
        ...row("Natural", ...(changed ? [...shows(each, each.natural), ". ", each.otherwise] : ["the same"])),
        ...row("Why", each.why),
      ),
      choices("experience", each, [
        ["auto", "As decided", each.forced === null],
        ...each.variants.map((told, index) =>
          [String(index), index ? `Variant ${index}` : "Control", each.forced === index, told]),
      ]));
  };
  const rules = (groups) => groups.flatMap((group, index) => [
    ...(groups.length > 1 ? [make("p", { class: "dim" }, index ? "or" : "either")] : []),
    make("ul", {}, ...group.map(([held, wanted, found]) => make("li", {},
      make("span", { role: "img", "aria-label": held ? "holds" : "does not hold" }, held ? "✓" : "✗"), " ",
      name(wanted), ...(found === "" ? [] : [make("span", { class: "dim" }, " found ", name(found))])))),
  ]);
  const audience = (each) => make("section", { class: each.changed ? "card changed" : "card" },
    name(each.name, "h3"),
    make("p", {}, (each.on ? "In it" : "Not in it") + (each.changed ? `, naturally ${each.on ? "not" : "in it"}` : "")),
    ...rules(each.groups ?? []),
    choices("audience", each, [
      ["auto", "As decided", each.forced === undefined], ["on", "In", each.forced === true], ["off", "Out", each.forced === false],
    ]));
  const fold = (title, children, open, more) => {
    const summary = make("summary", {}, `${title} (${children.length + more})`);
    const rest = more ? [make("p", { class: "dim" }, `and ${more} more`)] : [];
    return children.length ? [make("details", open ? { open: "" } : {}, summary, ...children, ...rest)] : [];
  };

  const seen = new Set(marks().map((element) => markOf(element)?.experience));
  // An order that no switch changes, or what somebody just switched would move away.
  const here = data.experiences.filter((each) => each.asked.length || seen.has(each.id))
    .sort((one, other) => (one.natural === null) - (other.natural === null));
  const others = data.experiences.filter((each) => !here.includes(each));
  const names = new Map(data.experiences.map((each) => [each.id, each.name]));

  // The face.
  const host = make("nt-panel");
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet(); // no policy of the page forbids it
  sheet.replaceSync(`
    :host{all:initial;position:absolute;top:0;left:0;width:0;height:0;z-index:2147483647;color-scheme:light dark;
    --ink:#1d2430;--dim:#566072;--page:#fff;--line:#d5dae3;--act:#0b57d0;--on:#fff;--new:#8a4600;--tint:#fff4e5}
    @media(prefers-color-scheme:dark){:host{--ink:#e8ebf1;--dim:#a7b0c0;--page:#1b1f27;--line:#3b4352;--act:#8ab4f8;--on:#10141b;--new:#ffb77c;--tint:#33281b}}
    @media print{:host{display:none}}
    *{box-sizing:border-box}
    aside,.tab,.box{font:14px/1.45 system-ui,"DejaVu Sans",sans-serif;color:var(--ink)}
    .tab{position:fixed;left:0;bottom:1rem;display:flex;gap:.5rem;align-items:center;padding:.45rem .7rem;border:1px solid var(--line);border-left:0;
    border-radius:0 .6rem .6rem 0;background:var(--page);box-shadow:0 1px 6px #0004;cursor:pointer}
    .tab.preview{background:var(--act);color:var(--on);border-color:var(--act)}
    .tab b{min-width:1.4em;padding:0 .35em;border-radius:1em;border:1px solid;text-align:center}
    .tab[aria-expanded=true]{display:none}
    aside{position:fixed;left:0;top:0;bottom:0;width:22rem;max-width:100vw;display:flex;flex-direction:column;background:var(--page);border-right:1px solid var(--line);box-shadow:0 0 16px #0005}
    aside[hidden]{display:none}
    @media(max-width:40rem){aside{top:auto;width:100vw;height:70vh;height:70dvh;border-right:0;border-top:1px solid var(--line);border-radius:.8rem .8rem 0 0}}
    header{display:grid;grid-template-columns:1fr auto;align-items:center;gap:.15rem .5rem;padding:.7rem 1rem;border-bottom:1px solid var(--line)}
    header p,.bar{grid-column:1/-1}
    header strong{font-size:1.1rem}
    .bar{display:flex;flex-wrap:wrap;justify-content:space-between;align-items:center;gap:.5rem;margin-top:.25rem}
    .body{flex:1;min-height:0;overflow:auto;overscroll-behavior:contain;padding:.25rem 1rem 1rem;overflow-wrap:anywhere}
    h2,summary{margin:.9rem 0 .4rem;font-size:.95rem;font-weight:600}
    summary{cursor:pointer}
    h3{margin:0 0 .35rem;font-size:.95rem;font-weight:600;unicode-bidi:isolate}
    p{margin:.15rem 0}
    ul{margin:.25rem 0;padding:0 0 0 .2rem;list-style:none}
    .dim,dt{color:var(--dim)}
    .card{margin:0 0 .6rem;padding:.6rem .7rem;border:1px solid var(--line);border-radius:.6rem}
    .changed{border-color:var(--new);background:var(--tint)}
    dl{display:grid;grid-template-columns:auto 1fr;gap:.1rem .6rem;margin:0}
    dd{margin:0}
    .choices{display:flex;flex-wrap:wrap;gap:.3rem;margin-top:.5rem}
    aside button{font:inherit;color:var(--act);background:none;border:1px solid var(--line);border-radius:.45rem;padding:.25rem .6rem;min-height:2rem;cursor:pointer}
    aside button[aria-pressed=true]{color:var(--on);background:var(--act);border-color:var(--act)}
    aside .close{border:0;color:var(--ink);min-width:2rem}
    input{accent-color:var(--act);vertical-align:-.15em}
    :focus-visible{outline:2px solid var(--act);outline-offset:2px}
    .body:focus-visible{outline-offset:-2px}
    .tab.preview:focus-visible{outline-color:var(--ink)}
    .boxes{position:absolute;top:0;left:0}
    .box{position:absolute;pointer-events:none;outline:2px dashed #0b57d0;outline-offset:-2px}
    .variant{outline-color:#b3261e}
    .box span{position:absolute;right:0;top:0;max-width:100%;padding:0 .4rem;line-height:18px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;font-size:12px;color:#fff;background:#0b57d0}
    .above span{top:auto;bottom:100%}
    .variant span{background:#b3261e}
  `);
  root.adoptedStyleSheets = [sheet];

  const boxes = make("div", { class: "boxes", "aria-hidden": "true" });
  const ends = data.left ? new Date(Date.now() + data.left * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : "";
  const status = data.preview ? `Nothing is stored or counted. Ends at ${ends}.` : "You see this page as a visitor. A switch begins a preview.";
  const count = here.filter((each) => each.shown !== null).length;
  const tab = make("button", {
    type: "button", class: data.preview ? "tab preview" : "tab", "aria-expanded": "false", "aria-controls": "panel",
    onclick: () => show(aside.hidden),
  }, data.preview ? "Preview" : "Panel", make("b", { title: "personalized here" }, String(count)));
  const toggle = make("input", { type: "checkbox", id: "marks" });
  const body = make("div", { class: "body", tabindex: "0", role: "region", "aria-label": "What is personalized" },
    ...(data.failed ? [make("p", { role: "alert" }, "Personalization does not answer now, so the page shows its baselines.")] : []),
    make("h2", {}, "On this page"),
    ...(here.length ? here.map(experience) : [make("p", { class: "dim" }, "Nothing on this page is personalized.")]),
    ...(data.rest.length ? [make("h2", {}, "Also in this preview"), make("ul", {}, ...data.rest.map((each) => name(each, "li")))] : []),
    ...fold("Audiences", data.audiences.map(audience), data.audiences.some((each) => each.forced !== undefined), data.unlisted[1]),
    ...fold("Experiences elsewhere", others.map(experience), others.some((each) => each.forced !== null), data.unlisted[0]));
  const aside = make("aside", { id: "panel", "aria-label": "Preview panel", hidden: "" },
    make("header", {},
      make("strong", {}, data.preview ? "Preview" : "Personalization"),
      make("button", { type: "button", class: "close", "aria-label": "Close the panel", onclick: () => show(false) }, "✕"),
      make("p", { class: "dim" }, status),
      make("div", { class: "bar" },
        make("label", { for: "marks" }, toggle, " Mark on the page"),
        ...(data.preview ? [make("button", { type: "button", onclick: end }, "End preview")] : []))),
    body);
  root.append(boxes, aside, tab);

  const show = (open, quiet) => {
    aside.hidden = !open;
    tab.setAttribute("aria-expanded", String(open));
    memory.keep("open", open);
    if (!quiet) (open ? body : tab).focus();
  };
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !aside.hidden) { event.stopPropagation(); show(false); }
  });

  // A mark on each element that says what it shows. Boxes over the page: its own elements are not touched.
  let due = false;
  const draw = () => {
    due = false;
    const origin = boxes.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    boxes.replaceChildren(...(toggle.checked ? marks() : []).flatMap((element) => {
      const mark = markOf(element);
      const rect = element.getBoundingClientRect();
      const left = Math.max(rect.left, 0);
      if (!mark || !rect.width || !rect.height || left >= width) return [];
      const text = mark.experience ? `${names.get(mark.experience) ?? mark.experience} · ${words(mark.index)}` : "no experience";
      const kind = (mark.index ? "box variant" : "box") + (rect.top - origin.top > 20 ? " above" : "");
      const box = make("div", { class: kind }, name(text, "span"));
      box.style.cssText = `left:${left - origin.left}px;top:${rect.top - origin.top}px;` +
        `width:${Math.min(rect.right, width) - left}px;height:${rect.height}px`;
      return [box];
    }));
  };
  const redraw = () => { if (!due) { due = true; requestAnimationFrame(draw); } };
  toggle.checked = memory.read("marks") ?? true;
  toggle.addEventListener("change", () => { memory.keep("marks", toggle.checked); redraw(); });
  document.documentElement.append(host);
  show(memory.read("open") ?? false, true);
  new ResizeObserver(redraw).observe(document.documentElement);
  new MutationObserver(redraw).observe(document.body, { subtree: true, childList: true, attributes: true });
  for (const event of ["resize", "load"]) addEventListener(event, redraw);
  addEventListener("scroll", redraw, { capture: true, passive: true });
  draw();

  // After a switch, everything is where it was.
  const at = memory.read("at");
  memory.keep("at", null);
  if (at && at[0] === location.pathname && !aside.hidden) {
    body.scrollTop = at[3];
    [...root.querySelectorAll("[data-key]")].find((each) => each.dataset.key === at[1])?.focus({ preventScroll: true });
    scrollTo({ top: at[2], behavior: "instant" });
  }
})();
