#pragma once

#include <map>
#include <string>
#include <string_view>

namespace amalgam::fuzz {

/// Reads bytes that a stranger may have made as the program would read them. True where they were accepted, false where
/// an InputError said why not; whatever else is thrown, or a sanitizer sees, is a finding.
using Entry = bool (*)(std::string_view bytes);

/// The entries, by the name of their corpus (tests/fuzz/corpus/NAME):
///   safetensors  the file, and every tensor of it
///   task_parts   a file of parts of two small tensors, and what a task makes of them
///   index        the index of two sound shards
///   statistics   the header of a statistics file, as text; what data it asks for stands behind it as zeros and ones
///   idx          an IDX file, plain or gzip, of labels and of images
///   options      YAML, read into options of every type
const std::map<std::string, Entry>& entries();

/// Inputs that are accepted, by entry: where a fuzzer starts from. Made anew each time, so that they are of the present
/// format.
std::multimap<std::string, std::string> seeds();

}  // namespace amalgam::fuzz
