// The programs that an operation runs, from its attribute.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "abi.h"

namespace {

// Steps in an attribute, as `op.serialized` in Python writes them, little-endian: int32 GL_ABI, count of steps, columns
// of params; then each step: int32 op, flags, column, height, width, dtype_in, dtype_out, count, 1 where it has a table,
// number of its counter, count of choices; its choices; its numbers; its table.
class Reader {
 public:
  explicit Reader(const std::vector<char>& bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}
  template <class Value>
  bool read(Value* values, size_t count) {
    if (left() / sizeof(Value) < count) return false;
    if (count) std::memcpy(values, at_, count * sizeof(Value));
    at_ += count * sizeof(Value);
    return true;
  }
  template <class Value>
  bool read(std::vector<Value>& values, int64_t count) {
    if (count < 0 || left() / sizeof(Value) < static_cast<size_t>(count)) return false;
    values.resize(count);
    return read(values.data(), count);
  }
  size_t left() const { return end_ - at_; }

 private:
  const char *at_, *end_;
};

// A step that only images go through that were drawn for it.
struct ChosenStep {
  gl_step step;
  std::vector<double> numbers;
  std::vector<uint8_t> table;
  int32_t number;                // of its counter
  std::vector<int32_t> choices;  // a column of choices, and the alternative in it; then the next
  bool read(Reader& reader) {
    int32_t f[11];
    if (!reader.read(f, 11) || f[10] < 0 || !reader.read(choices, int64_t{2} * f[10])) return false;
    if (!reader.read(numbers, f[7]) || !reader.read(table, f[8] ? 256 : 0)) return false;
    step = {f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], numbers.empty() ? nullptr : numbers.data(),
            table.empty() ? nullptr : table.data()};
    number = f[9];
    return true;
  }
  bool drawn(const int64_t* row) const {
    for (size_t i = 0; i < choices.size(); i += 2)
      if (row[choices[i]] != choices[i + 1]) return false;
    return true;
  }
};

using Program = std::shared_ptr<gl_program>;

// The programs that images go through: one where no step has choices, else one for each set of steps that is drawn.
class Programs {
 public:
  // Whether it could be made; else `reason` [GL_REASON] says why not. All programs count in the rows of a name, if it
  // isn't empty.
  bool read(const std::vector<char>& bytes, const std::string& counter, char* reason) {
    Reader reader(bytes);
    counter_ = counter;
    int32_t head[3];
    if (!reader.read(head, 3) || head[0] != GL_ABI) return fail(reason, "the program is of another version");
    columns_ = head[2];
    for (int32_t i = 0; i < head[1]; i++) {
      steps_.emplace_back();
      if (!steps_.back().read(reader)) return fail(reason, "the program is cut off");
      for (size_t k = 0; k < steps_.back().choices.size(); k += 2) {
        if (steps_.back().choices[k] < 0) return fail(reason, "a choice lies outside");
        choices_ = std::max(choices_, int64_t{steps_.back().choices[k]} + 1);
      }
    }
    if (reader.left()) return fail(reason, "the program is too long");
    if (steps_.empty()) return fail(reason, "the program has no step");
    if (choices_) return true;
    only_ = made(std::string(steps_.size(), 1), reason);
    return only_ != nullptr;
  }
  int32_t columns() const { return columns_; }
  bool of_files() const { return steps_.front().step.op == GL_DECODE && steps_.front().choices.empty(); }
  int32_t dtype_in() const { return steps_.front().step.dtype_in; }
  int32_t dtype_out() const { return steps_.back().step.dtype_out; }
  int64_t choices() const { return choices_; }  // columns that there must be, at least
  const Program& only() const { return only_; }
  // What an image goes through; null where it can't be made.
  Program of(const int64_t* row, char* reason) {
    std::string which(steps_.size(), 0);
    for (size_t i = 0; i < steps_.size(); i++) which[i] = steps_[i].drawn(row);
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = kept_.find(which);
    if (found != kept_.end()) return found->second;
    Program program = made(which, reason);
    if (kept_.size() >= kMost) kept_.clear();  // those in use live on
    if (program) kept_[which] = program;
    return program;
  }

 private:
  static constexpr size_t kMost = 1024;
  static bool fail(char* reason, const char* text) {
    std::strcpy(reason, text);
    return false;
  }
  Program made(const std::string& which, char* reason) const {
    std::vector<gl_step> steps;
    std::vector<int32_t> numbers;
    for (size_t i = 0; i < steps_.size(); i++)
      if (which[i]) {
        steps.push_back(steps_[i].step);
        numbers.push_back(steps_[i].number);
      }
    // Images and results have been looked at for the first and the last step of all, which may not be drawn.
    const bool files = !steps.empty() && steps.front().op == GL_DECODE;
    if (!steps.empty() && (files != of_files() || steps.front().dtype_in != dtype_in() ||
                           steps.back().dtype_out != dtype_out())) {
      fail(reason, "the steps that were drawn take or give images of another type");
      return nullptr;
    }
    gl_program* program = gl_program_new(steps.data(), static_cast<int32_t>(steps.size()), columns_, reason);
    if (program && !counter_.empty()) gl_program_count(program, counter_.c_str(), numbers.data());
    return program ? Program(program, gl_program_free) : nullptr;
  }
  std::deque<ChosenStep> steps_;
  std::string counter_;
  int32_t columns_ = 0;
  int64_t choices_ = 0;
  Program only_;
  std::mutex mutex_;
  std::map<std::string, Program> kept_;
};

}  // namespace
