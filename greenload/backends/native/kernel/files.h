// What a store asks of the file system.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace greenload {

// A file's number, closed in the end.
struct OpenFile {
  explicit OpenFile(int number_) : number(number_) {}
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  const int number;  // −1: none
};

// Whether it could be done; errno says why not.
bool read_at(int file, void* to, size_t size, int64_t offset);
bool write_all(int file, const void* from, size_t size);
// With those above it.
bool make_folder(const std::string& path);

// Of a key below a folder: made where it is missing, without links in its path. Throws a Failure where it can't be.
std::string key_folder(const char* folder, const uint8_t* key);

// Names of files that end so. None where the folder can't be read.
std::vector<std::string> names_in(const std::string& folder, const char* suffix);

}  // namespace greenload
