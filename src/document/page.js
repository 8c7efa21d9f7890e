(() => {
  const form = document.querySelector("form");
  const find = document.getElementById("find");
  const found = document.getElementById("found");
  const articles = [...document.querySelectorAll("article")];
  const has = (text, words) => words.every((word) => text.includes(word));
  const search = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let connectors = 0;
    let fields = 0;
    for (const article of articles) {
      const about = article.dataset.find.toLowerCase();
      const whole = has(about, words);
      let hits = 0;
      for (const row of article.querySelectorAll("tr[data-field]")) {
        row.hidden = !whole && !has(`${about} ${row.textContent.toLowerCase()}`, words);
        hits += row.hidden ? 0 : 1;
      }
      article.hidden = !whole && hits === 0;
      connectors += article.hidden ? 0 : 1;
      fields += article.hidden ? 0 : hits;
      document.querySelector(`nav a[href="#${article.id}"]`).parentElement.hidden = article.hidden;
    }
    const count = (many, noun) => `${many} ${noun}${many === 1 ? "" : "s"}`;
    found.textContent = words.length ? `${count(connectors, "connector")}, ${count(fields, "field")}` : "";
  };
  find.addEventListener("input", search);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
})();
