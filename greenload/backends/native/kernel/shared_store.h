// A handle of a store that a process shares: gl_store_open.
#pragma once
#include <cstdint>
#include <memory>

#include "store.h"

namespace greenload {

// Of the one store that this process has of a folder (or of RAM), a key and a count. The last handle closes it.
class SharedStore {
 public:
  // As gl_store_open; where another thread is closing the store, it waits first. Throws a Failure where the folder
  // can't be used.
  SharedStore(const char* folder, const uint8_t* key, int64_t count, int64_t budget);
  ~SharedStore();
  SharedStore(SharedStore&&) = default;
  SharedStore& operator=(SharedStore&&) = delete;
  Store* operator->() const { return store_.get(); }

 private:
  std::shared_ptr<Store> store_;
};

}  // namespace greenload
