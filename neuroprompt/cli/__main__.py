from neuroprompt.cli import main

main()
