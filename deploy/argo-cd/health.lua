-- The health of a ServiceKey, a KeyProvider or a ClusterKeyProvider for Argo CD. The script uses no library.
local function condition(type)
  for _, condition in ipairs((obj.status or {}).conditions or {}) do
    if condition.type == type then
      return condition
    end
  end
end

local function health(status, message)
  return {status = status, message = message}
end

local function told(status, condition)
  return health(status, condition.reason .. ": " .. condition.message)
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "the object is being deleted")
end
if obj.spec.suspend == true then
  return health("Suspended", "suspended; set `spec.suspend` to false to resume")
end

local ready = condition("Ready")
if ready == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the operator has not reconciled this generation yet")
end

local stalled = condition("Stalled")
if stalled ~= nil and stalled.status == "True" then
  return told("Degraded", stalled)
end
local reconciling = condition("Reconciling")
if reconciling ~= nil and reconciling.status == "True" then
  return told("Progressing", reconciling)
end
if ready.status ~= "True" then
  return told("Progressing", ready)
end
return told("Healthy", ready)
