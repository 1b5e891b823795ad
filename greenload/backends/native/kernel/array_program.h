// Array programs: what draws and params are computed by, recorded once in Python and run here as one operation. Their
// results have the same bits as NumPy's: integers wrap around, and every operation on floats is rounded once.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace greenload {

enum class Kind : int64_t { BOOL = 0, INT64 = 1, UINT64 = 2, FLOAT64 = 3 };

// As `array_program.py` has them.
enum class Opcode : int64_t {
  CONSTANT = 0,
  CAST = 1,
  ADD = 2,
  SUBTRACT = 3,
  MULTIPLY = 4,
  DIVIDE = 5,
  FLOOR_DIVIDE = 6,
  REMAINDER = 7,
  LESS = 8,
  LESS_EQUAL = 9,
  EQUAL = 10,
  NOT_EQUAL = 11,
  AND = 12,
  OR = 13,
  XOR = 14,
  MINIMUM = 15,
  MAXIMUM = 16,
  SHIFT_RIGHT = 17,
  NEGATIVE = 18,
  NOT = 19,
  FLOOR = 20,
  SQRT = 21,
  RINT = 22,
  WHERE = 23,
  SLICE = 24,
  SELECT = 25,
  NEW_AXIS = 26,
  CONCAT = 27,
  TAKE = 28,
  PICK = 29,
  ANY = 30,
  ARGMAX = 31,
  ARGSORT = 32,
  POSITIONS = 33,
  COUNT_UP_TO = 34,
  WALK = 35,
};
constexpr int64_t kOpcodes = 36;

// An array in row-major order; every value takes eight bytes, of a bool the lowest is 0 or 1.
struct Array {
  Kind kind = Kind::INT64;
  std::vector<int64_t> dims;
  std::vector<uint64_t> words;

  int64_t size() const { return static_cast<int64_t>(words.size()); }
  void resize(Kind kind, std::vector<int64_t> dims);
};

struct Instruction {
  Opcode opcode;
  int64_t out;
  std::vector<int64_t> arguments;  // registers
  std::vector<int64_t> numbers;
  Array constant;
  std::vector<Instruction> body;  // of a walk
};

class ArrayProgram {
 public:
  // From words, as `array_program.py` writes them. False with a reason where they aren't a program.
  bool read(const std::vector<int64_t>& words, std::string& reason);
  int64_t inputs() const { return inputs_; }
  const std::vector<int64_t>& outputs() const { return outputs_; }
  // Registers, of which the first are the inputs; outputs() says which to look at. Throws std::invalid_argument where
  // arrays don't fit an instruction.
  void run(std::vector<Array>& registers) const;
  int64_t registers() const { return registers_; }

 private:
  int64_t inputs_ = 0, registers_ = 0;
  std::vector<int64_t> outputs_;
  std::vector<Instruction> instructions_;
};

}  // namespace greenload
