package expr

// numberCastImpls are the casts among numbers, booleans and money.
func numberCastImpls() map[string]*impl {
	all := map[string]*impl{}
	sizes := map[string]int{"int2": 16, "int4": 32, "int8": 64}
	for to, bits := range sizes {
		all[to+"(numeric)"] = one(func(m *Machine, a value) value { return numericToInt(m, a, bits) })
		all[to+"(float4)"] = one(func(m *Machine, a value) value { return floatToInt(m, a.float(), bits) })
		all[to+"(float8)"] = all[to+"(float4)"]
		for from := range sizes {
			if from != to {
				all[to+"("+from+")"] = one(func(m *Machine, a value) value { return fitInt(m, a.i, bits) })
			}
		}
	}
	for from := range sizes {
		all["numeric("+from+")"] = one(func(_ *Machine, a value) value { return numericOfInt(a.i) })
		all["float8("+from+")"] = one(func(_ *Machine, a value) value { return floatValue(float64(a.i)) })
		all["float4("+from+")"] = one(func(_ *Machine, a value) value { return floatValue(float64(float32(a.i))) })
	}
	all["numeric(float8)"] = one(func(_ *Machine, a value) value { return floatToNumeric(a.float(), 15) })
	all["numeric(float4)"] = one(func(_ *Machine, a value) value { return floatToNumeric(a.float(), 6) })
	all["float8(numeric)"] = one(func(m *Machine, a value) value { return numericToFloat(m, a, 64) })
	all["float4(numeric)"] = one(func(m *Machine, a value) value { return numericToFloat(m, a, 32) })
	all["float8(float4)"] = same()
	all["float4(float8)"] = one(func(m *Machine, a value) value { return floatToFloat4(m, a.float()) })
	all["numeric(money)"] = one(func(_ *Machine, a value) value { return moneyToNumeric(a) })
	all["money(numeric)"] = one(numericToMoney)
	all["money(int4)"] = one(func(_ *Machine, a value) value { return intValue(a.i * 100) })
	all["money(int8)"] = one(func(m *Machine, a value) value {
		if r, ok := mulInt(a.i, 100); ok {
			return intValue(r)
		}
		return m.fail("22003", "bigint out of range")
	})
	all["bool(int4)"] = one(func(_ *Machine, a value) value { return boolValue(a.i != 0) })
	all["int4(bool)"] = same()
	yes, no := []byte("true"), []byte("false")
	all["text(bool)"] = one(func(_ *Machine, a value) value {
		if a.i != 0 {
			return textValue(yes)
		}
		return textValue(no)
	})
	return all
}

// numericToFloat converts through the text form, as PostgreSQL does.
func numericToFloat(m *Machine, a value, bits int) value {
	var buf [64]byte
	return parseFloat(m, appendNumeric(buf[:0], a), bits)
}
