-- What Argo CD shows as the health of a FineTuneJob: its condition Ready. docs/gitops.md says how to install it.
local status = obj.status or {}

if status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The operator has not seen this version of the manifest yet."}
end

for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    local health = {True = "Healthy", False = "Degraded", Unknown = "Progressing"}
    if condition.reason == "Suspended" then
      health.Unknown = "Suspended"
    end
    return {status = health[condition.status], message = condition.message}
  end
end

return {status = "Progressing", message = "The operator has not said yet whether it is ready."}
