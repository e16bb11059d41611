// What the theme's own script makes without a name or out of reach of the keyboard. It runs as the
// page loads and again after each click, as copy buttons and scrolling tables are made late.
const mend = () => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap")) box.tabIndex = 0;
  for (const bar of document.querySelectorAll(".md-code__nav")) bar.setAttribute("role", "none");
};
new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
mend();
