generate: tools
	PATH="$(CURDIR)/.tools/bin:$$PATH" buf generate
tools:
	cd tools && go build -o ../.tools/bin/ tool
