// Parsed once for the whole build. Sources still name what they use. LibTorch's torch/torch.h and torch/script.h stay
// out: every source would pay for their templates again, and only a few sources of models/ use them.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>
