// An edge node of Eclipse Tahu's client, told what to do by lines on stdin.

const { newClient } = require("sparkplug-client");
const [port, groupId, edgeNode] = process.argv.slice(2);

const client = newClient({
  serverUrl: `mqtt://127.0.0.1:${port}`, username: "", password: "", groupId, edgeNode,
  clientId: `${groupId}-${edgeNode}`, version: "spBv1.0", publishDeath: true,
});

const metric = (name, alias, value) => ({
  ...(name ? { name } : {}), alias, value, type: "Double", timestamp: Date.now(),
});
const payload = (one) => ({ timestamp: Date.now(), metrics: [one] });
const birth = () => {
  client.publishNodeBirth({
    timestamp: Date.now(),
    metrics: [metric("Pressure", 1, 0.5), { name: "Node Control/Rebirth", type: "Boolean", value: false }],
  });
  client.publishDeviceBirth("press", payload(metric("Speed", 2, 0.5)));
};

client.on("birth", () => { birth(); console.log("ready"); });
client.on("ncmd", (command) => {
  if (command.metrics.some((each) => each.name === "Node Control/Rebirth" && each.value)) {
    birth();
    console.log("rebirth");
  }
});

require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const [word, number] = line.split(" ");
  if (word === "leave") {
    client.stop();
    return setTimeout(() => process.exit(0), 200);
  }
  const named = word === "values";
  client.publishNodeData(payload(metric(named && "Pressure", 1, Number(number))));
  client.publishDeviceData("press", payload(metric(named && "Speed", 2, Number(number))));
  console.log(line);
});
