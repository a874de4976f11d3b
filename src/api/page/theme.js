// Runs before anything is painted: the colours that were chosen, or those of the system.
const themes = ["light", "dark"];
const chosen = localStorage.getItem("portolan.theme");
document.documentElement.dataset.theme = themes.includes(chosen) ? chosen : "system";
