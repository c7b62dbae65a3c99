#include "datasets/data_spec.h"

#include "datasets/formats.h"

namespace amalgam {

void DataSpec::declare(OptionSet& set) {
  set.choice("format", format, format_names(), "how the files are laid out");
  set.text("root", root, "the folder that holds the files");
  set.real("val_fraction", val_fraction, {0, 0.9},
           "the part of train that becomes val, drawn by the seed; used only where the root has no val files");
  set.integers(
      "classes", classes, {0, OptionSet::kInfinity},
      "labels to keep, relabelled 0, 1, … in this order; the other examples are left out (empty: all are kept)");
  set.integer("max_examples", max_examples, {0, OptionSet::kInfinity},
              "at most this many examples of each split, the first ones in the files' order (0: all)");
  set.choice(
      "mask", mask, {"auto", "none"},
      "rows that count in statistics: auto takes the data's mask, else an input called attention_mask, else those "
      "whose token target is not negative; none: all rows count");
  set.flag("trim_padding", trim_padding,
           "of texts [N, T]: positions at the end that count in no example of a batch are cut off, which saves time");
  set.node("transforms", transforms, "what is done to each image, in order: a list such as [{rotate: 34}, {blur: 5}]");
}

std::string describe(const DataSpec& spec) {
  YAML::Emitter line;
  line.SetMapFormat(YAML::Flow);
  line.SetSeqFormat(YAML::Flow);
  line << write_options(spec);
  return line.c_str();
}

}  // namespace amalgam
