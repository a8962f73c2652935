// What was asked for behind the `#` comes along. And who followed a link of another site is signed in already: the cookie
// does not come with such a step, but it does with a question of ours.

const form = document.querySelector("form");
form.action += location.hash;
if (!document.querySelector("#trouble").textContent && (await fetch("live/site")).ok) location.replace(`.${location.hash ? `/${location.hash}` : ""}`);
