package export

// SetSheetRows makes sheets of fewer rows until the returned function is called.
func SetSheetRows(n int) func() {
	was := sheetRows
	sheetRows = n
	return func() { sheetRows = was }
}
