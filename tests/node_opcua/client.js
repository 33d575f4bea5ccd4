// A foreign OPC UA client: drives a station through whole inspections, by the companion model alone.
//
// Each line of stdout is one thing that happened, as JSON; the test on the other side plays the camera.
// node client.js ENDPOINT FOLDER USER PASSWORD RECIPE PART...
"use strict";
const {
  AttributeIds, ClientMonitoredItem, ClientSubscription, DataType, MessageSecurityMode,
  OPCUAClient, SecurityPolicy, TimestampsToReturn, UserTokenType, Variant, VariantArrayType,
  constructEventFilter, makeBrowsePath, resolveNodeId,
} = require("node-opcua-client");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");

const VISION = "http://opcfoundation.org/UA/MachineVision";
const [endpoint, folder, userName, password, recipe, ...parts] = process.argv.slice(2);
const say = (what, fields) => console.log(JSON.stringify({ what, ...fields }));
const EVENT_FIELDS = ["EventType", "Message", "SourceName", "Severity"];
const VISION_FIELDS = ["JobId", "ResultId", "PartId", "ResultState", "IsSimulated", "InternalRecipeId",
  "InternalConfigurationId", "ExternalConfigurationId", "ResultContent", "CreationTime"];
const PLAIN_FIELDS = ["ResultEvaluation", "ResultEvaluationCode", "Transition"];

function plain(value) {
  if (value === null || value === undefined) return null;
  if (Buffer.isBuffer(value)) return value.toString("hex");
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Variant) return plain(value.value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "object" && "text" in value) return value.text;
  if (typeof value === "object" && value.schema) {
    return Object.fromEntries(Object.keys(value).filter(key => key !== "schema").map(key => [key, plain(value[key])]));
  }
  return typeof value === "object" ? value.toString() : value;
}

async function main() {
  const clientCertificateManager = new OPCUACertificateManager({ rootFolder: `${folder}/pki`, automaticallyAcceptUnknownCertificate: true });
  const client = OPCUAClient.create({
    applicationName: "foreign", applicationUri: "urn:test:client", clientCertificateManager,
    certificateFile: `${folder}/client.pem`, privateKeyFile: `${folder}/client.key.pem`,
    securityMode: MessageSecurityMode.SignAndEncrypt, securityPolicy: SecurityPolicy.Basic256Sha256,
    endpointMustExist: false, connectionStrategy: { maxRetry: 0 }, requestedSessionTimeout: 60000,
  });
  await client.connect(endpoint);
  const session = await client.createSession({ type: UserTokenType.UserName, userName, password });
  const namespaces = await session.readNamespaceArray();
  const vision = namespaces.indexOf(VISION);
  say("connected", { namespaces });

  // Nodes are found by browse names, as a client that knows the companion model does.
  const objects = await session.browse("ObjectsFolder");
  let system;
  for (const reference of objects.references) {
    const type = reference.typeDefinition;
    if (type.namespace === vision && type.value === 1003) system = reference.nodeId;
  }
  const find = async (path) => {
    const result = await session.translateBrowsePath(makeBrowsePath(system, path.split("/").map(n => `/${n.startsWith("0:") ? n.slice(2) : `${vision}:${n}`}`).join("")));
    if (!result.statusCode.isGood()) throw new Error(`${path}: ${result.statusCode}`);
    return result.targets[0].targetId;
  };
  const machine = await find("VisionStateMachine");
  const automatic = await find("VisionStateMachine/AutomaticModeStateMachine");
  const recipes = await find("RecipeManagement");
  const results = await find("ResultManagement");
  const state = async () => {
    const read = async path => (await session.read({ nodeId: await find(path), attributeId: AttributeIds.Value })).value;
    const outer = plain(await read("VisionStateMachine/0:CurrentState"));
    return outer === "Operational" ? plain(await read("VisionStateMachine/AutomaticModeStateMachine/0:CurrentState")) : outer;
  };

  const subscription = ClientSubscription.create(session, {
    requestedPublishingInterval: 20, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 20,
    maxNotificationsPerPublish: 100, publishingEnabled: true, priority: 1,
  });
  const filter = constructEventFilter([...EVENT_FIELDS, ...VISION_FIELDS.map(n => `${vision}:${n}`), ...PLAIN_FIELDS]);
  const names = [...EVENT_FIELDS, ...VISION_FIELDS, ...PLAIN_FIELDS];
  const waiting = [];
  const events = ClientMonitoredItem.create(subscription, { nodeId: resolveNodeId("Server"), attributeId: AttributeIds.EventNotifier },
    { samplingInterval: 0, discardOldest: true, queueSize: 1000, filter }, TimestampsToReturn.Both);
  events.on("changed", (values) => {
    const event = Object.fromEntries(values.map((value, i) => [names[i], plain(value)]));
    event.kind = `${values[0].value}`.replace(/^.*i=/, "");
    say("event", event);
    for (const wait of [...waiting]) if (wait.kind === event.kind) { waiting.splice(waiting.indexOf(wait), 1); wait.done(event); }
  });
  await new Promise((resolve, reject) => { events.on("initialized", resolve); events.on("err", reject); });
  const event = kind => new Promise(done => waiting.push({ kind, done }));

  const structure = async (number, fields) => new Variant({
    dataType: DataType.ExtensionObject,
    value: await session.constructExtensionObject(resolveNodeId(`ns=${vision};i=${number}`), fields),
  });
  const call = async (objectId, name, inputArguments = []) => {
    const path = objectId === machine ? `VisionStateMachine/${name}`
      : objectId === automatic ? `VisionStateMachine/AutomaticModeStateMachine/${name}`
      : objectId === recipes ? `RecipeManagement/${name}` : `ResultManagement/${name}`;
    const result = await session.call({ objectId, methodId: await find(path), inputArguments });
    const answer = { name, status: result.statusCode.name, outputs: (result.outputArguments || []).map(plain) };
    say("call", answer);
    return answer;
  };
  const why = [new Variant({ dataType: DataType.Int32, value: 0 }), new Variant({ dataType: DataType.String, value: "test" })];
  const none = new Variant({ dataType: DataType.Variant, arrayType: VariantArrayType.Array, value: [] });
  const number = (dataType, value) => new Variant({ dataType, value });

  say("state", { state: await state() });
  await call(automatic, "StartContinuous", [await structure(3015, { id: "" }), await structure(3004, { id: "" }),
    await structure(3002, { id: "" }), await structure(3003, { id: "" }), none]);
  await call(machine, "SelectModeAutomatic");
  say("state", { state: await state() });
  await call(recipes, "PrepareRecipe", [await structure(3002, { id: "another" }), await structure(3013, { id: "" })]);
  await call(recipes, "PrepareRecipe", [await structure(3002, { id: recipe }), await structure(3013, { id: "" })]);
  say("state", { state: await state() });

  let last;
  for (const [index, part] of parts.entries()) {
    const [result, ready] = [event("1024"), event("1023")];
    await call(automatic, "StartSingleJob", [await structure(3015, { id: `M-${index + 1}` }), await structure(3004, { id: part }),
      await structure(3002, { id: recipe }), await structure(3003, { id: "" }), none]);
    say("camera", { part });
    last = (await result).ResultId.id;
    await ready;
    say("state", { state: await state() });
  }
  await call(results, "GetResultById", [await structure(3021, { id: last }), number(DataType.Int32, 0)]);
  await call(results, "GetResultListFiltered", [number(DataType.Int32, 1), await structure(3015, { id: "" }),
    await structure(3004, { id: parts[0] }), await structure(3002, { id: "" }), await structure(3013, { id: "" }),
    await structure(3008, { id: "" }), await structure(3008, { id: "" }), await structure(3003, { id: "" }),
    await structure(3016, { id: "" }), number(DataType.UInt32, 10), number(DataType.UInt32, 0), number(DataType.Int32, 0)]);
  await call(machine, "Halt", why);
  say("state", { state: await state() });
  await call(machine, "Reset", why);
  say("state", { state: await state() });

  await subscription.terminate();
  await session.close();
  await client.disconnect();
  say("done", {});
}

main().then(() => process.exit(0)).catch((error) => { console.error(error.stack || error); process.exit(1); });
