#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/error.h"

namespace amalgam {

/// The text of the InputError that `work` throws; a failure and an empty text where it throws none.
template <class Work>
std::string input_error_of(Work work) {
  try {
    work();
  } catch (const InputError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no InputError was thrown";
  return "";
}

}  // namespace amalgam
