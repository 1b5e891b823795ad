#include "array_program.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "abi.h"

namespace greenload {

namespace {

constexpr int64_t kMostWalks = 100000;             // a walk of an order takes a few steps
constexpr int64_t kMostValues = int64_t{1} << 26;  // of an array
constexpr int64_t kMostDepth = 2;                  // of walks in walks
constexpr size_t kMostAxes = 8;

[[noreturn]] void wrong(const char* text) { throw std::invalid_argument(std::string("greenload: ") + text); }

void need(bool holds, const char* text) {
  if (!holds) {
    wrong(text);
  }
}

template <class Value>
Value value_of(uint64_t word) {
  static_assert(sizeof(Value) == sizeof word, "values take eight bytes");
  Value value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

template <>
bool value_of<bool>(uint64_t word) {
  return word != 0;
}

template <class Value>
uint64_t word_of(Value value) {
  uint64_t word;
  std::memcpy(&word, &value, sizeof word);
  return word;
}

uint64_t word_of(bool value) { return value; }

int64_t values(const std::vector<int64_t>& dims) {
  int64_t count = 1;
  for (int64_t side : dims) {
    need(side >= 0 && (!side || count <= kMostValues / side), "an array of a program is too large");
    count *= side;
  }
  return count;
}

// ---- broadcasting

std::vector<int64_t> together(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  std::vector<int64_t> dims(std::max(a.size(), b.size()));
  for (size_t k = 0; k < dims.size(); k++) {
    const int64_t own = k < a.size() ? a[a.size() - 1 - k] : 1, other = k < b.size() ? b[b.size() - 1 - k] : 1;
    need(own == other || own == 1 || other == 1, "arrays of a program have shapes that don't go together");
    dims[dims.size() - 1 - k] = own == 1 ? other : own;
  }
  return dims;
}

// How far an array's values lie apart along each axis of a result; 0 where it has one for all.
std::vector<int64_t> steps(const Array& array, const std::vector<int64_t>& dims) {
  std::vector<int64_t> apart(dims.size(), 0);
  int64_t step = 1;
  for (size_t k = 0; k < array.dims.size(); k++) {
    const int64_t side = array.dims[array.dims.size() - 1 - k];
    apart[dims.size() - 1 - k] = side == 1 ? 0 : step;
    step *= side;
  }
  return apart;
}

// Calls `visit(position, offsets)` for each value of a result: where it is, and where those that it is made of are.
template <int count, class Visit>
void broadcast(const Array* const (&arrays)[count], const std::vector<int64_t>& dims, int64_t size, Visit visit) {
  bool alike = true;
  for (const Array* array : arrays) {
    alike &= array->size() == size;
  }
  int64_t offsets[count] = {};
  if (alike) {
    for (int64_t i = 0; i < size; i++) {
      for (int64_t& offset : offsets) {
        offset = i;
      }
      visit(i, offsets);
    }
    return;
  }
  std::vector<int64_t> apart[count];
  for (int k = 0; k < count; k++) {
    apart[k] = steps(*arrays[k], dims);
  }
  std::vector<int64_t> at(dims.size(), 0);
  for (int64_t i = 0; i < size; i++) {
    visit(i, offsets);
    for (size_t axis = dims.size(); axis-- > 0;) {
      at[axis]++;
      for (int k = 0; k < count; k++) {
        offsets[k] += apart[k][axis];
      }
      if (at[axis] < dims[axis]) {
        break;
      }
      for (int k = 0; k < count; k++) {
        offsets[k] -= apart[k][axis] * dims[axis];
      }
      at[axis] = 0;
    }
  }
}

template <class Value, class Function>
void binary(const Array& a, const Array& b, Kind kind, Array& out, Function function) {
  out.resize(kind, together(a.dims, b.dims));
  const Array* const both[] = {&a, &b};
  const uint64_t *left = a.words.data(), *right = b.words.data();
  uint64_t* to = out.words.data();
  broadcast(both, out.dims, out.size(), [&](int64_t i, const int64_t (&offsets)[2]) {
    to[i] = word_of(function(value_of<Value>(left[offsets[0]]), value_of<Value>(right[offsets[1]])));
  });
}

template <class Function>
void unary(const Array& a, Kind kind, Array& out, Function function) {
  out.resize(kind, a.dims);
  for (int64_t i = 0; i < a.size(); i++) {
    out.words[i] = function(a.words[i]);
  }
}

// ---- arithmetic

int64_t floored(int64_t a, int64_t b) {  // as NumPy's: 0 by zero, and towards minus infinity
  if (b == 0) {
    return 0;
  }
  if (b == -1) {
    return static_cast<int64_t>(0 - static_cast<uint64_t>(a));
  }
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

uint64_t floored(uint64_t a, uint64_t b) { return b ? a / b : 0; }

int64_t left_over(int64_t a, int64_t b) {
  if (b == 0 || b == -1) {
    return 0;
  }
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

uint64_t left_over(uint64_t a, uint64_t b) { return b ? a % b : 0; }

// Integers wrap around: as unsigned ones they do in C++, too.
template <class Value, class Function>
Value wrapping(Value a, Value b, Function function) {
  return static_cast<Value>(function(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
}

template <class Value>
bool compare(Opcode opcode, const Array& a, const Array& b, Array& out) {
  const auto made = [&](auto function) { binary<Value>(a, b, Kind::BOOL, out, function); };
  switch (opcode) {
    case Opcode::LESS: made([](Value x, Value y) { return x < y; }); return true;
    case Opcode::LESS_EQUAL: made([](Value x, Value y) { return x <= y; }); return true;
    case Opcode::EQUAL: made([](Value x, Value y) { return x == y; }); return true;
    case Opcode::NOT_EQUAL: made([](Value x, Value y) { return x != y; }); return true;
    default: return false;
  }
}

template <class Value>
bool choose(Opcode opcode, const Array& a, const Array& b, Array& out) {
  const auto made = [&](auto function) { binary<Value>(a, b, a.kind, out, function); };
  switch (opcode) {
    case Opcode::MINIMUM: made([](Value x, Value y) { return y < x ? y : x; }); return true;
    case Opcode::MAXIMUM: made([](Value x, Value y) { return x < y ? y : x; }); return true;
    default: return compare<Value>(opcode, a, b, out);
  }
}

template <class Value>
bool of_integers(Opcode opcode, const Array& a, const Array& b, Array& out) {
  const auto made = [&](auto function) { binary<Value>(a, b, a.kind, out, function); };
  const auto wrapped = [&](auto function) { made([function](Value x, Value y) { return wrapping(x, y, function); }); };
  switch (opcode) {
    case Opcode::ADD: wrapped([](uint64_t x, uint64_t y) { return x + y; }); return true;
    case Opcode::SUBTRACT: wrapped([](uint64_t x, uint64_t y) { return x - y; }); return true;
    case Opcode::MULTIPLY: wrapped([](uint64_t x, uint64_t y) { return x * y; }); return true;
    case Opcode::XOR: wrapped([](uint64_t x, uint64_t y) { return x ^ y; }); return true;
    case Opcode::FLOOR_DIVIDE: made([](Value x, Value y) { return floored(x, y); }); return true;
    case Opcode::REMAINDER: made([](Value x, Value y) { return left_over(x, y); }); return true;
    default: return choose<Value>(opcode, a, b, out);
  }
}

bool of_floats(Opcode opcode, const Array& a, const Array& b, Array& out) {
  const auto made = [&](auto function) { binary<double>(a, b, Kind::FLOAT64, out, function); };
  switch (opcode) {
    case Opcode::ADD: made([](double x, double y) { return x + y; }); return true;
    case Opcode::SUBTRACT: made([](double x, double y) { return x - y; }); return true;
    case Opcode::MULTIPLY: made([](double x, double y) { return x * y; }); return true;
    case Opcode::DIVIDE: made([](double x, double y) { return x / y; }); return true;
    default: return choose<double>(opcode, a, b, out);
  }
}

bool of_bools(Opcode opcode, const Array& a, const Array& b, Array& out) {
  const auto made = [&](auto function) { binary<bool>(a, b, Kind::BOOL, out, function); };
  switch (opcode) {
    case Opcode::AND: made([](bool x, bool y) { return x && y; }); return true;
    case Opcode::OR: made([](bool x, bool y) { return x || y; }); return true;
    case Opcode::EQUAL: made([](bool x, bool y) { return x == y; }); return true;
    case Opcode::NOT_EQUAL: made([](bool x, bool y) { return x != y; }); return true;
    default: return false;
  }
}

void of_two(Opcode opcode, const Array& a, const Array& b, Array& out) {
  need(a.kind == b.kind, "arrays of a program differ in type");
  bool done = false;
  switch (a.kind) {
    case Kind::BOOL: done = of_bools(opcode, a, b, out); break;
    case Kind::INT64: done = of_integers<int64_t>(opcode, a, b, out); break;
    case Kind::UINT64: done = of_integers<uint64_t>(opcode, a, b, out); break;
    case Kind::FLOAT64: done = of_floats(opcode, a, b, out); break;
  }
  need(done, "an instruction of a program isn't there for its type");
}

int64_t truncated(double value) {  // as processors do it: what doesn't fit becomes the least
  return value >= -0x1p63 && value < 0x1p63 ? static_cast<int64_t>(value) : std::numeric_limits<int64_t>::min();
}

uint64_t cast(uint64_t word, Kind from, Kind to) {
  if (to == from) {
    return word;
  }
  if (to == Kind::BOOL) {
    return from == Kind::FLOAT64 ? value_of<double>(word) != 0 : word != 0;
  }
  if (to == Kind::FLOAT64) {
    return word_of(from == Kind::INT64 ? static_cast<double>(value_of<int64_t>(word)) : static_cast<double>(word));
  }
  if (from == Kind::FLOAT64) {
    const double value = value_of<double>(word);
    return to == Kind::UINT64 && value >= 0x1p63 && value < 0x1p64 ? static_cast<uint64_t>(value)
                                                                   : word_of(truncated(value));
  }
  return word;  // between integers, and from a bool
}

void of_one(const Instruction& instruction, const Array& a, Array& out) {
  const auto floats = [&](auto function) {
    need(a.kind == Kind::FLOAT64, "an instruction of a program isn't there for its type");
    unary(a, a.kind, out, [function](uint64_t word) { return word_of(function(value_of<double>(word))); });
  };
  switch (instruction.opcode) {
    case Opcode::CAST: {
      const Kind from = a.kind, to = static_cast<Kind>(instruction.numbers[0]);
      return unary(a, to, out, [from, to](uint64_t word) { return cast(word, from, to); });
    }
    case Opcode::SHIFT_RIGHT: {
      const int64_t bits = instruction.numbers[0];
      need(a.kind == Kind::UINT64 && bits >= 0 && bits < 64, "a program shifts what it can't");
      return unary(a, a.kind, out, [bits](uint64_t word) { return word >> bits; });
    }
    case Opcode::NOT:
      need(a.kind == Kind::BOOL, "an instruction of a program isn't there for its type");
      return unary(a, a.kind, out, [](uint64_t word) { return uint64_t{!word}; });
    case Opcode::NEGATIVE:
      need(a.kind != Kind::BOOL, "an instruction of a program isn't there for its type");
      if (a.kind != Kind::FLOAT64) {
        return unary(a, a.kind, out, [](uint64_t word) { return 0 - word; });
      }
      return floats([](double value) { return -value; });
    case Opcode::FLOOR: return floats([](double value) { return std::floor(value); });
    case Opcode::SQRT: return floats([](double value) { return std::sqrt(value); });
    default: return floats([](double value) { return std::nearbyint(value); });
  }
}

void where(const Array& condition, const Array& a, const Array& b, Array& out) {
  need(condition.kind == Kind::BOOL && a.kind == b.kind, "arrays of a program differ in type");
  out.resize(a.kind, together(together(condition.dims, a.dims), b.dims));
  const Array* const all[] = {&condition, &a, &b};
  broadcast(all, out.dims, out.size(), [&](int64_t i, const int64_t (&offsets)[3]) {
    out.words[i] = condition.words[offsets[0]] ? a.words[offsets[1]] : b.words[offsets[2]];
  });
}

// ---- shapes

// An array as [before, side, behind] around an axis.
struct Around {
  int64_t before = 1, side = 1, behind = 1;
  Around(const Array& array, int64_t axis) {
    need(axis >= 0 && axis < static_cast<int64_t>(array.dims.size()), "a program names an axis that isn't there");
    for (int64_t k = 0; k < axis; k++) {
      before *= array.dims[k];
    }
    side = array.dims[axis];
    for (size_t k = axis + 1; k < array.dims.size(); k++) {
      behind *= array.dims[k];
    }
  }
};

// The values from `begin` to `end` along an axis.
void cut(const Array& a, int64_t axis, int64_t begin, int64_t end, Array& out) {
  const Around around(a, axis);
  std::vector<int64_t> dims = a.dims;
  dims[axis] = end - begin;
  out.resize(a.kind, dims);
  for (int64_t i = 0; i < around.before; i++) {
    std::copy_n(&a.words[0] + (i * around.side + begin) * around.behind, (end - begin) * around.behind,
                &out.words[0] + i * (end - begin) * around.behind);
  }
}

void slice(const Instruction& instruction, const Array& a, Array& out) {
  const int64_t axis = instruction.numbers[0], side = Around(a, axis).side;
  const auto bound = [side](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + side : at, 0, side); };
  const int64_t begin = bound(instruction.numbers[1]), end = bound(instruction.numbers[2]);
  cut(a, axis, begin, std::max(begin, end), out);
}

void select(const Instruction& instruction, const Array& a, Array& out) {
  const int64_t axis = instruction.numbers[0], side = Around(a, axis).side;
  const int64_t at = instruction.numbers[1] + (instruction.numbers[1] < 0 ? side : 0);
  need(at >= 0 && at < side, "a program looks beyond an array");
  cut(a, axis, at, at + 1, out);
  out.dims.erase(out.dims.begin() + axis);
}

void new_axis(const Instruction& instruction, const Array& a, Array& out) {
  const int64_t axis = instruction.numbers[0];
  need(axis >= 0 && axis <= static_cast<int64_t>(a.dims.size()), "a program names an axis that isn't there");
  out = a;
  out.dims.insert(out.dims.begin() + axis, 1);
}

void concat(const Instruction& instruction, const std::vector<Array>& registers, Array& out) {
  const int64_t axis = instruction.numbers[0];
  std::vector<int64_t> dims = registers[instruction.arguments[0]].dims;
  const Around first(registers[instruction.arguments[0]], axis);
  dims[axis] = 0;
  for (int64_t argument : instruction.arguments) {
    const Array& part = registers[argument];
    const Around around(part, axis);
    std::vector<int64_t> others = part.dims;
    others[axis] = dims[axis];
    need(others == dims && part.kind == registers[instruction.arguments[0]].kind, "a program joins what doesn't fit");
    dims[axis] += around.side;
  }
  out.resize(registers[instruction.arguments[0]].kind, dims);
  int64_t at = 0;
  for (int64_t argument : instruction.arguments) {
    const Array& part = registers[argument];
    const int64_t row = part.dims[axis] * first.behind, rows = dims[axis] * first.behind;
    for (int64_t i = 0; i < first.before; i++) {
      std::copy_n(part.words.data() + i * row, row, out.words.data() + i * rows + at);
    }
    at += row;
  }
}

// ---- looking up and ordering

void take(const Array& table, const Array& index, Array& out) {
  need(index.kind == Kind::INT64 && !table.dims.empty(), "a program looks up what it can't");
  const Around rows(table, 0);
  std::vector<int64_t> dims = index.dims;
  dims.insert(dims.end(), table.dims.begin() + 1, table.dims.end());
  out.resize(table.kind, dims);
  for (int64_t i = 0; i < index.size(); i++) {
    const int64_t row = value_of<int64_t>(index.words[i]);
    need(row >= 0 && row < rows.side, "a program looks beyond an array");
    std::copy_n(table.words.data() + row * rows.behind, rows.behind, out.words.data() + i * rows.behind);
  }
}

int64_t last_side(const Array& array) {
  need(!array.dims.empty(), "a program names an axis that isn't there");
  return array.dims.back();
}

void pick(const Array& array, const Array& position, Array& out) {
  const int64_t side = last_side(array);
  need(position.kind == Kind::INT64 && position.size() * side == array.size(), "a program looks up what it can't");
  out.resize(array.kind, position.dims);
  for (int64_t i = 0; i < position.size(); i++) {
    const int64_t at = value_of<int64_t>(position.words[i]);
    need(at >= 0 && at < side, "a program looks beyond an array");
    out.words[i] = array.words[i * side + at];
  }
}

void any_or_first(const Instruction& instruction, const Array& a, Array& out) {
  const int64_t axis = instruction.numbers[0];
  const Around around(a, axis);
  const bool any = instruction.opcode == Opcode::ANY;
  need(a.kind == Kind::BOOL && (any || around.side > 0), "an instruction of a program isn't there for its type");
  std::vector<int64_t> dims = a.dims;
  dims.erase(dims.begin() + axis);
  out.resize(any ? Kind::BOOL : Kind::INT64, dims);
  for (int64_t i = 0; i < around.before; i++) {
    for (int64_t k = 0; k < around.behind; k++) {
      int64_t first = 0;
      while (first < around.side && !a.words[(i * around.side + first) * around.behind + k]) {
        first++;
      }
      out.words[i * around.behind + k] = any ? first < around.side : first < around.side ? first : 0;
    }
  }
}

template <class Value>
void argsort(const Array& a, Array& out) {
  const int64_t side = last_side(a);
  out.resize(Kind::INT64, a.dims);
  for (int64_t row = 0; side && row < a.size() / side; row++) {
    int64_t* order = reinterpret_cast<int64_t*>(out.words.data()) + row * side;
    const uint64_t* from = a.words.data() + row * side;
    std::iota(order, order + side, int64_t{0});
    std::stable_sort(order, order + side,
                     [from](int64_t x, int64_t y) { return value_of<Value>(from[x]) < value_of<Value>(from[y]); });
  }
}

void sorted(const Array& a, Array& out) {
  switch (a.kind) {
    case Kind::INT64: return argsort<int64_t>(a, out);
    case Kind::FLOAT64: return argsort<double>(a, out);
    default: return argsort<uint64_t>(a, out);
  }
}

void positions(const Array& a, Array& out) {
  need(!a.dims.empty(), "a program names an axis that isn't there");
  out.resize(Kind::INT64, {a.dims[0]});
  std::iota(out.words.begin(), out.words.end(), uint64_t{0});
}

void count_up_to(const Array& levels, const Array& a, Array& out) {
  need(levels.kind == Kind::FLOAT64 && a.kind == Kind::FLOAT64, "an instruction of a program isn't there for its type");
  const auto below = [](double value, uint64_t level) { return value < value_of<double>(level); };
  unary(a, Kind::INT64, out, [&](uint64_t word) {
    const auto found = std::upper_bound(levels.words.begin(), levels.words.end(), value_of<double>(word), below);
    return static_cast<uint64_t>(found - levels.words.begin());
  });
}

// ---- running

void run_all(const std::vector<Instruction>& instructions, std::vector<Array>& registers);

// As `Ops.walk`: what is outside goes on, until nothing is.
void walk(const Instruction& instruction, std::vector<Array>& registers) {
  const int64_t size = instruction.arguments[1], entering = instruction.numbers[0], leaving = instruction.numbers[1];
  registers[entering] = registers[instruction.arguments[0]];
  run_all(instruction.body, registers);
  Array now = registers[leaving], outside;
  for (int64_t count = 0;; count++) {
    of_two(Opcode::LESS, now, registers[size], outside);
    if (std::all_of(outside.words.begin(), outside.words.end(), [](uint64_t inside) { return inside; })) {
      break;
    }
    need(count < kMostWalks, "a walk of a program doesn't end");
    registers[entering] = now;
    run_all(instruction.body, registers);
    const Array last = std::move(now);
    where(outside, last, registers[leaving], now);
  }
  registers[instruction.out] = std::move(now);
}

void run_one(const Instruction& instruction, std::vector<Array>& registers) {
  Array& out = registers[instruction.out];
  const auto argument = [&](int k) -> const Array& { return registers[instruction.arguments[k]]; };
  switch (instruction.opcode) {
    case Opcode::CONSTANT: out = instruction.constant; return;
    case Opcode::CAST:
    case Opcode::SHIFT_RIGHT:
    case Opcode::NEGATIVE:
    case Opcode::NOT:
    case Opcode::FLOOR:
    case Opcode::SQRT:
    case Opcode::RINT: return of_one(instruction, argument(0), out);
    case Opcode::WHERE: return where(argument(0), argument(1), argument(2), out);
    case Opcode::SLICE: return slice(instruction, argument(0), out);
    case Opcode::SELECT: return select(instruction, argument(0), out);
    case Opcode::NEW_AXIS: return new_axis(instruction, argument(0), out);
    case Opcode::CONCAT: return concat(instruction, registers, out);
    case Opcode::TAKE: return take(argument(0), argument(1), out);
    case Opcode::PICK: return pick(argument(0), argument(1), out);
    case Opcode::ANY:
    case Opcode::ARGMAX: return any_or_first(instruction, argument(0), out);
    case Opcode::ARGSORT: return sorted(argument(0), out);
    case Opcode::POSITIONS: return positions(argument(0), out);
    case Opcode::COUNT_UP_TO: return count_up_to(argument(0), argument(1), out);
    case Opcode::WALK: return walk(instruction, registers);
    default: return of_two(instruction.opcode, argument(0), argument(1), out);
  }
}

void run_all(const std::vector<Instruction>& instructions, std::vector<Array>& registers) {
  for (const Instruction& instruction : instructions) {
    run_one(instruction, registers);
  }
}

// ---- reading

int64_t arguments_of(Opcode opcode) {  // −1 for any number from 1
  switch (opcode) {
    case Opcode::CONSTANT: return 0;
    case Opcode::CAST:
    case Opcode::SHIFT_RIGHT:
    case Opcode::NEGATIVE:
    case Opcode::NOT:
    case Opcode::FLOOR:
    case Opcode::SQRT:
    case Opcode::RINT:
    case Opcode::SLICE:
    case Opcode::SELECT:
    case Opcode::NEW_AXIS:
    case Opcode::ANY:
    case Opcode::ARGMAX:
    case Opcode::ARGSORT:
    case Opcode::POSITIONS: return 1;
    case Opcode::WHERE: return 3;
    case Opcode::CONCAT: return -1;
    default: return 2;
  }
}

size_t numbers_of(Opcode opcode) {  // at least
  switch (opcode) {
    case Opcode::CAST:
    case Opcode::SHIFT_RIGHT:
    case Opcode::NEW_AXIS:
    case Opcode::CONCAT:
    case Opcode::ANY:
    case Opcode::ARGMAX: return 1;
    case Opcode::SELECT:
    case Opcode::CONSTANT: return 2;
    case Opcode::SLICE:
    case Opcode::WALK: return 3;
    default: return 0;
  }
}

bool is_kind(int64_t number) { return number >= 0 && number <= static_cast<int64_t>(Kind::FLOAT64); }

class Reader {
 public:
  Reader(const std::vector<int64_t>& words, size_t at) : words_(words), at_(at) {}
  int64_t next() {
    need(at_ < words_.size(), "a program ends too early");
    return words_[at_++];
  }
  int64_t next(int64_t limit) {
    const int64_t number = next();
    need(number >= 0 && number < limit, "a program names what it hasn't");
    return number;
  }
  std::vector<int64_t> several(int64_t limit = 0) {  // of a limit, each
    std::vector<int64_t> numbers(next(static_cast<int64_t>(words_.size() - at_ + 1)));
    for (int64_t& number : numbers) {
      number = limit ? next(limit) : next();
    }
    return numbers;
  }
  bool ended() const { return at_ == words_.size(); }

 private:
  const std::vector<int64_t>& words_;
  size_t at_;
};

Array constant_of(const std::vector<int64_t>& numbers) {  // kind, axes, sides, then the values
  Array constant;
  const int64_t axes = numbers[1];
  need(is_kind(numbers[0]) && axes >= 0 && axes <= static_cast<int64_t>(kMostAxes) &&
           numbers.size() >= 2 + static_cast<size_t>(axes),
       "a program has a constant without a shape");
  constant.resize(static_cast<Kind>(numbers[0]), {numbers.begin() + 2, numbers.begin() + 2 + axes});
  need(numbers.size() == static_cast<size_t>(2 + axes + constant.size()), "a program has a constant of another shape");
  std::copy(numbers.begin() + 2 + axes, numbers.end(), constant.words.begin());
  return constant;
}

std::vector<Instruction> instructions_of(Reader& reader, int64_t count, int64_t registers, int64_t depth) {
  need(depth <= kMostDepth, "a program has walks in too many walks");
  std::vector<Instruction> instructions;
  for (int64_t i = 0; i < count; i++) {
    Instruction instruction{};
    instruction.opcode = static_cast<Opcode>(reader.next(kOpcodes));
    instruction.out = reader.next(registers);
    instruction.arguments = reader.several(registers);
    instruction.numbers = reader.several();
    const int64_t arguments = arguments_of(instruction.opcode);
    const int64_t given = static_cast<int64_t>(instruction.arguments.size());
    need(arguments < 0 ? given > 0 : given == arguments, "an instruction of a program lacks arguments");
    need(instruction.numbers.size() >= numbers_of(instruction.opcode), "an instruction of a program lacks numbers");
    for (int64_t argument : instruction.arguments) {
      need(argument != instruction.out, "an instruction of a program overwrites what it reads");
    }
    if (instruction.opcode == Opcode::CAST) {
      need(is_kind(instruction.numbers[0]), "a program names a type that isn't there");
    }
    if (instruction.opcode == Opcode::CONSTANT) {
      instruction.constant = constant_of(instruction.numbers);
      instruction.numbers.clear();
    }
    if (instruction.opcode == Opcode::WALK) {
      for (int k = 0; k < 2; k++) {
        need(instruction.numbers[k] >= 0 && instruction.numbers[k] < registers &&
                 instruction.numbers[k] != instruction.arguments[1],
             "a program names what it hasn't");
      }
      instruction.body = instructions_of(reader, instruction.numbers[2], registers, depth + 1);
    }
    instructions.push_back(std::move(instruction));
  }
  return instructions;
}

}  // namespace

void Array::resize(Kind new_kind, std::vector<int64_t> new_dims) {
  need(new_dims.size() <= kMostAxes, "an array of a program has too many axes");
  kind = new_kind;
  words.resize(values(new_dims));
  dims = std::move(new_dims);
}

bool ArrayProgram::read(const std::vector<int64_t>& words, std::string& reason) {
  try {
    Reader reader(words, 0);
    need(reader.next() == GL_ABI, "a program is of another version");
    constexpr int64_t kMost = int64_t{1} << 20;
    inputs_ = reader.next(kMost);
    registers_ = reader.next(kMost);
    need(inputs_ <= registers_, "a program names what it hasn't");
    outputs_ = reader.several(registers_ ? registers_ : 1);
    const int64_t count = reader.next(kMost);
    instructions_ = instructions_of(reader, count, registers_, 0);
    need(reader.ended(), "a program ends too late");
  } catch (const std::exception& error) {
    reason = error.what();
    return false;
  }
  return true;
}

void ArrayProgram::run(std::vector<Array>& registers) const { run_all(instructions_, registers); }

}  // namespace greenload
