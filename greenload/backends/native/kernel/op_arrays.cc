// Array programs as an operation of TensorFlow, for its graphs.
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "abi.h"
#include "array_program.h"
#include "operation.h"

namespace {

using greenload::Array;
using greenload::Kind;

struct Arrays {
  greenload::ArrayProgram program;
  void read(Construction* c, Status* status) {
    int32_t list = 0, length = 0;
    TF_OpKernelConstruction_GetAttrSize(c, "program", &list, &length, status);
    std::string bytes(length > 0 ? length : 0, 0);
    if (TF_GetCode(status) == OK) {
      TF_OpKernelConstruction_GetAttrString(c, "program", &bytes[0], bytes.size(), status);
    }
    if (TF_GetCode(status) != OK) {
      return;
    }
    std::vector<int64_t> words(bytes.size() / sizeof(int64_t));
    std::memcpy(words.data(), bytes.data(), words.size() * sizeof(int64_t));
    std::string reason;
    if (!program.read(words, reason)) {
      TF_SetStatus(status, INVALID_ARGUMENT, reason.c_str());
    }
  }
};

bool copied_in(const Tensor* tensor, Array& array, Call& call) {
  const Type type = TF_TensorType(tensor);
  array.resize(type == INT64 ? Kind::INT64 : Kind::FLOAT64, dims_of(tensor));
  if (type != INT64 && type != DOUBLE) {
    return call.fail(INVALID_ARGUMENT, "greenload: no program takes this type");
  }
  if (array.size()) {
    std::memcpy(array.words.data(), TF_TensorData(tensor), array.words.size() * sizeof(uint64_t));
  }
  return true;
}

void copy_out(const Array& array, int index, Call& call) {
  const bool flags = array.kind == Kind::BOOL;
  const Type type = flags ? BOOL : array.kind == Kind::FLOAT64 ? DOUBLE : INT64;
  if (array.kind == Kind::UINT64 || call.expected(index) != type) {
    call.fail(INVALID_ARGUMENT, "greenload: a program gives another type");
    return;
  }
  Tensor* tensor = call.output(index, type, array.dims, array.words.size() * (flags ? 1 : sizeof(uint64_t)));
  if (call.failed() || !array.size()) {
    return;
  }
  if (!flags) {
    std::memcpy(TF_TensorData(tensor), array.words.data(), array.words.size() * sizeof(uint64_t));
    return;
  }
  for (int64_t i = 0; i < array.size(); i++) {
    data_of<bool>(tensor)[i] = array.words[i] != 0;
  }
}

void arrays(Arrays& kernel, Call& call) {
  const greenload::ArrayProgram& program = kernel.program;
  if (call.inputs() != program.inputs() || call.outputs() != static_cast<int64_t>(program.outputs().size())) {
    call.fail(INVALID_ARGUMENT, "greenload: a program takes or gives another number of arrays");
    return;
  }
  std::vector<Array> registers(program.registers());
  for (int i = 0; i < call.inputs(); i++) {
    const Tensor* tensor = call.input(i);
    if (call.failed() || !copied_in(tensor, registers[i], call)) {
      return;
    }
  }
  program.run(registers);
  for (int i = 0; i < call.outputs() && !call.failed(); i++) {
    copy_out(registers[program.outputs()[i]], i, call);
  }
}

void unknown_shapes(ShapeContext* context, Status* status) {  // op.py sets what is known
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

__attribute__((constructor)) void register_all() {
  if (!found_tensorflow() || gl_abi() != GL_ABI) {
    return;
  }
  Status* status = TF_NewStatus();
  add<Arrays, arrays>("GreenloadArrays", {"inputs: inputs_types"}, {"outputs: outputs_types"},
                      {"inputs_types: list({int64, double}) >= 0", "outputs_types: list({int64, double, bool}) >= 0",
                       "program: string"},
                      unknown_shapes, status);
  TF_DeleteStatus(status);
}

}  // namespace
