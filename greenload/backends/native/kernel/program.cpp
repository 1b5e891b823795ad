#include "program.h"

#include <algorithm>

#include "failure.h"
#include "levels.h"

namespace greenload {

namespace {

constexpr size_t kTrimmed = size_t{64} << 20;
constexpr int64_t kLongestResult = int64_t{1} << 28;

bool is_of_sum(int32_t op) { return op >= GL_FORK && op <= GL_SUM; }

bool is_filtered(int32_t dtype) { return dtype == GL_UINT8 || dtype == GL_FLOAT32; }

// How many params a step has.
int params_of(const gl_step& step) {
  if (is_level_map(step.op)) {
    return 1;
  }
  switch (step.op) {
    case GL_DECODE: return step.flags & GL_WINDOW ? 4 : 0;
    case GL_TURN:
    case GL_FLIP:
    case GL_BLUR:
    case GL_SHARPEN:
    case GL_ADD:
    case GL_SUM: return 1;
    case GL_CROP:
    case GL_ERASE: return 4;
    case GL_PAD: return step.height ? 2 : 4;
    case GL_RESIZE: return step.height ? 0 : 2;
    case GL_MIX:
    case GL_WARP: return 6;
    case GL_PERSPECTIVE: return 10;
    case GL_COLOR: return step.flags & GL_MAYBE ? 13 : 12;
    default: return 0;
  }
}

void check_dtypes(const gl_step& step) {
  for (int32_t dtype : {step.dtype_in, step.dtype_out}) {
    if (dtype < GL_UINT8 || dtype > GL_FLOAT32) {
      fail(GL_BAD_CALL, "no dtype %d", dtype);
    }
  }
  bool fits = step.op == GL_AFFINE || step.dtype_in == step.dtype_out;
  if (step.op == GL_DECODE || step.op == GL_SHARPEN || is_of_sum(step.op) || is_level_map(step.op)) {
    fits = fits && step.dtype_out == GL_UINT8;
  }
  if (step.op == GL_RESIZE || step.op == GL_WARP || step.op == GL_PERSPECTIVE || step.op == GL_COLOR ||
      step.op == GL_BLUR) {
    fits = fits && is_filtered(step.dtype_in);
  }
  if (!fits) {
    fail(GL_BAD_CALL, "op %d takes no dtype %d to %d", step.op, step.dtype_in, step.dtype_out);
  }
}

void check_numbers(const gl_step& step) {
  bool fits = step.count == 0;
  if (step.op == GL_PAD || step.op == GL_WARP || step.op == GL_PERSPECTIVE) {
    fits = step.count == 1;
  }
  if (step.op == GL_ERASE) {
    fits = step.count >= 1;
  }
  if (step.op == GL_AFFINE) {
    fits = step.count >= 2 && step.count % 2 == 0;
  }
  if (!fits || (step.count && !step.numbers)) {
    fail(GL_BAD_CALL, "op %d takes other than %d numbers", step.op, step.count);
  }
  if (step.op == GL_LOOKUP && !step.table) {
    fail(GL_BAD_CALL, "a look-up without a table");
  }
}

void check(const gl_step& step, int32_t columns) {
  if (step.op < GL_DECODE || (step.op > GL_SHARPEN && step.op != GL_PERSPECTIVE && !is_of_sum(step.op))) {
    fail(GL_BAD_CALL, "no op %d", step.op);
  }
  check_dtypes(step);
  check_numbers(step);
  bool sized = step.op == GL_PAD || step.op == GL_RESIZE || step.op == GL_BLUR;
  bool fits = step.height == 0 && step.width == 0;
  if (sized) {
    fits = (fits && step.op != GL_BLUR) ||
           (step.height > 0 && step.width > 0 && step.height < kLongestResult && step.width < kLongestResult);
  }
  if (step.op == GL_BLUR) {
    fits = fits && step.height % 2 && step.width % 2;
  }
  if (sized && !fits) {
    fail(GL_BAD_CALL, "op %d of %d × %d", step.op, step.height, step.width);
  }
  const int params = params_of(step);
  if (params && (step.column < 0 || step.column > columns - params)) {
    fail(GL_BAD_CALL, "op %d reads %d params from column %d of %d", step.op, params, step.column, columns);
  }
}

// Whether each GL_ADD stands between a GL_FORK and its GL_SUM.
void check_sums(const gl_step* steps, int32_t count) {
  bool forked = false;
  for (int32_t i = 0; i < count; i++) {
    if (is_of_sum(steps[i].op)) {
      if (forked == (steps[i].op == GL_FORK)) {
        fail(GL_BAD_CALL, "step %d %s", i, forked ? "forks within a sum" : "is of a sum that no step forks");
      }
      forked = steps[i].op != GL_SUM;
    }
  }
  if (forked) {
    fail(GL_BAD_CALL, "a step forks, and none sums");
  }
}

}  // namespace

bool Step::in_place() const {
  switch (given.op) {
    case GL_FLIP:
    case GL_COLOR:
    case GL_ERASE: return true;
    case GL_AFFINE: return item_bytes(given.dtype_in) == item_bytes(given.dtype_out);
    default: return is_level_map(given.op);
  }
}

void Scratch::trim() {
  release_above(kTrimmed, {&between[0], &between[1], &tables});
  decoder.trim(kTrimmed);
  resizer.trim(kTrimmed);
  sum.trim(kTrimmed);
  blur.trim(kTrimmed);
}

Program::Program(const gl_step* steps, int32_t count, int32_t columns)
    : columns_(columns), counters_(std::max(count, 0)) {
  if (count < 1 || !steps || columns < 0) {
    fail(GL_BAD_CALL, "no steps");
  }
  check_sums(steps, count);
  for (int32_t i = 0; i < count; i++) {
    check(steps[i], columns);
    if ((steps[i].op == GL_DECODE || steps[i].op == GL_MIX) && i > 0) {
      fail(GL_BAD_CALL, "only the first step %s", steps[i].op == GL_MIX ? "mixes" : "decodes");
    }
    if (i > 0 && steps[i].dtype_in != steps[i - 1].dtype_out) {
      fail(GL_BAD_CALL, "step %d takes dtype %d, where the one before it gives %d", i, steps[i].dtype_in,
           steps[i - 1].dtype_out);
    }
    Step step;
    step.given = steps[i];
    step.numbers.assign(steps[i].numbers, steps[i].numbers + steps[i].count);
    if (steps[i].op == GL_LOOKUP) {
      step.table.assign(steps[i].table, steps[i].table + 256);
    }
    if (steps[i].op == GL_AFFINE) {
      step.affine =
          std::make_unique<Affine>(step.numbers.data(), steps[i].count, steps[i].dtype_in, steps[i].dtype_out);
    }
    steps_.push_back(std::move(step));
  }
}

namespace {

// Of the process; never destroyed, since threads may still run at its end.
Spares<Scratch>& spare_scratch() {
  static Spares<Scratch>* const spares = new Spares<Scratch>();
  return *spares;
}

}  // namespace

Worker Program::take() {
  Worker worker{spare_scratch().take(), tallies_.take()};
  if (!worker.scratch) {
    worker.scratch = std::make_unique<Scratch>();
  }
  if (!worker.tally) {
    worker.tally = std::make_unique<Tally>(steps_.size());
  }
  return worker;
}

void Program::give_back(Worker worker) {
  worker.scratch->trim();
  spare_scratch().give_back(std::move(worker.scratch));
  tallies_.give_back(std::move(worker.tally));
}

}  // namespace greenload
