// What every operation needs: its tensors, its kernel's life, and how it is registered.
#pragma once
#include <exception>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tensorflow_api.h"

namespace {

// A call's status and tensors, given back when it ends.
class Call {
 public:
  explicit Call(Context* context) : context_(context), status_(TF_NewStatus()) {}
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() {
    for (Tensor* tensor : tensors_)
      if (tensor) TF_DeleteTensor(tensor);
    if (failed()) TF_OpKernelContext_Failure(context_, status_);
    TF_DeleteStatus(status_);
  }
  bool fail(Code code, const char* text) {
    TF_SetStatus(status_, code, text);
    return false;
  }
  bool failed() const { return TF_GetCode(status_) != OK; }
  int inputs() const { return TF_NumInputs(context_); }
  int outputs() const { return TF_NumOutputs(context_); }
  Type expected(int index) const { return TF_ExpectedOutputDataType(context_, index); }  // of an output
  // Both are null where this fails, or has failed before.
  Tensor* input(int index) {
    Tensor* tensor = nullptr;
    if (!failed()) TF_GetInput(context_, index, &tensor, status_);
    return kept(tensor);
  }
  Tensor* output(int index, Type type, const std::vector<int64_t>& dims, size_t bytes) {
    if (failed()) return nullptr;
    return kept(TF_AllocateOutput(context_, index, type, dims.data(), static_cast<int>(dims.size()), bytes, status_));
  }

 private:
  Tensor* kept(Tensor* tensor) {
    tensors_.push_back(tensor);
    return failed() ? nullptr : tensor;
  }
  Context* context_;
  Status* status_;
  std::vector<Tensor*> tensors_;
};

template <class Value>
Value* data_of(const Tensor* tensor) {
  return static_cast<Value*>(TF_TensorData(tensor));
}

inline std::vector<int64_t> dims_of(const Tensor* tensor) {
  std::vector<int64_t> dims(TF_NumDims(tensor));
  for (size_t i = 0; i < dims.size(); i++) dims[i] = TF_Dim(tensor, static_cast<int>(i));
  return dims;
}

// No exception may reach TensorFlow.
template <class Kernel, void (*run)(Kernel&, Call&)>
void compute(void* kernel, Context* context) {
  Call call(context);
  try {
    run(*static_cast<Kernel*>(kernel), call);
  } catch (const std::invalid_argument& error) {
    call.fail(INVALID_ARGUMENT, error.what());
  } catch (const std::exception& error) {
    call.fail(RESOURCE_EXHAUSTED, error.what());
  }
}

template <class Kernel>
void* create(Construction* construction) {
  Status* status = TF_NewStatus();
  Kernel* kernel = nullptr;
  try {
    kernel = new Kernel;
    kernel->read(construction, status);
  } catch (const std::exception& error) {
    TF_SetStatus(status, RESOURCE_EXHAUSTED, error.what());
  }
  if (TF_GetCode(status) != OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return kernel;
}

template <class Kernel>
void destroy(void* kernel) {
  delete static_cast<Kernel*>(kernel);
}

template <class Kernel>
void add(const char* name, void (*work)(void*, Context*), std::vector<const char*> inputs, std::vector<const char*> outputs,
         std::vector<const char*> attributes, void (*shapes)(ShapeContext*, Status*), Status* status) {
  OpBuilder* op = TF_NewOpDefinitionBuilder(name);
  for (const char* attribute : attributes) TF_OpDefinitionBuilderAddAttr(op, attribute);
  for (const char* input : inputs) TF_OpDefinitionBuilderAddInput(op, input);
  for (const char* output : outputs) TF_OpDefinitionBuilderAddOutput(op, output);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(op, shapes);
  TF_RegisterOpDefinition(op, status);
  if (TF_GetCode(status) != OK) return;
  KernelBuilder* builder = TF_NewKernelBuilder(name, "CPU", create<Kernel>, work, destroy<Kernel>);
  TF_RegisterKernelBuilder(name, builder, status);
}

template <class Kernel, void (*work)(Kernel&, Call&)>
void add(const char* name, std::vector<const char*> inputs, std::vector<const char*> outputs,
         std::vector<const char*> attributes, void (*shapes)(ShapeContext*, Status*), Status* status) {
  add<Kernel>(name, compute<Kernel, work>, std::move(inputs), std::move(outputs), std::move(attributes), shapes,
              status);
}

inline void same_shape(ShapeContext* context, Status* status) {
  Shape* shape = TF_NewShapeHandle();
  TF_ShapeInferenceContextGetInput(context, 0, shape, status);
  if (TF_GetCode(status) == OK) TF_ShapeInferenceContextSetOutput(context, 0, shape, status);
  TF_DeleteShapeHandle(shape);
}

}  // namespace
